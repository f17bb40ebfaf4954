//! From the text of a condition to a [`Condition`]: scan, evalexpr's operator tree, types, slots, thresholds.
//!
//! The tree is only trusted for structure: numbers and names come from our own tokens, in the same order, so that every
//! complaint has its place. `!` is moved inwards until only comparisons, `&&` and `||` are left, and a measurement that is
//! compared with something stands on the left.

use evalexpr::{Node as Tree, Operator};

use super::diagnostic::Span;
use super::eval;
use super::identifier;
use super::shape::{self, Rounding};
use super::token::{self, Fault, Token, TokenKind};
use super::{Arith, Arm, Compare, Condition, Expr, Measurement};
use crate::model::metric::Catalogue;

/// A condition as written: typed and folded, thresholds not yet rounded.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    pub source: String,
    pub expr: Expr,
    pub slots: Vec<Measurement>,
    /// Comparisons with `==` or `!=`, which measured numbers rarely satisfy.
    pub equalities: Vec<Span>,
}

/// Reads a condition; the faults are placed within `text`.
pub fn parse(text: &str, catalogue: &Catalogue) -> Result<Parsed, Vec<Fault>> {
    let tokens = token::scan(text).map_err(|fault| vec![fault])?;
    let operands = operands(text, &tokens, catalogue)?;
    let tree = evalexpr::build_operator_tree(text).map_err(|error| {
        vec![Fault::new(Span::new(0, text.len()), format!("the condition cannot be read: {error}"))]
    })?;
    let mut lower = Lower {
        text,
        tokens: &tokens,
        operands: &operands,
        next: 0,
        slots: Vec::new(),
        equalities: Vec::new(),
    };
    let expr = lower.root(&tree).map_err(|fault| vec![fault])?;
    Ok(Parsed {
        source: text.split_whitespace().collect::<Vec<_>>().join(" "),
        expr: normal(expr, false, &lower.slots),
        slots: lower.slots,
        equalities: lower.equalities,
    })
}

impl Parsed {
    /// The condition as the engine judges it: thresholds inside a bucket rounded outward, shape recognised.
    pub fn finish(self, catalogue: &Catalogue) -> (Condition, Vec<Rounding>) {
        let mut roundings = Vec::new();
        let expr = shape::round(&self.expr, &self.slots, catalogue, &mut roundings);
        let shape = shape::classify(&expr, &self.slots);
        let condition = Condition { source: self.source, expr, slots: self.slots, shape };
        (condition, roundings)
    }
}

/// What the name tokens mean, by the index of the token.
fn operands(
    text: &str,
    tokens: &[Token],
    catalogue: &Catalogue,
) -> Result<Vec<Option<Measurement>>, Vec<Fault>> {
    let whole = Span::new(0, text.len());
    let mut out: Vec<Option<Measurement>> = vec![None; tokens.len()];
    let mut faults = Vec::new();
    let mut own: Vec<Measurement> = Vec::new();
    let mut bare = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        let TokenKind::Name(name) = &token.kind else {
            continue;
        };
        if name == "baseline" {
            if tokens.get(i + 1).map(|t| &t.kind) != Some(&TokenKind::Open) {
                bare.push(i);
            }
            continue;
        }
        match identifier::resolve(name, token.at, catalogue) {
            Ok(mut found) => {
                if is_baseline_argument(tokens, i) {
                    found.arm = Arm::Baseline;
                } else if !own.contains(&found) {
                    own.push(found);
                }
                out[i] = Some(found);
            }
            Err(fault) => faults.push(fault),
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    match own.as_slice() {
        [] if bare.is_empty() && out.iter().all(Option::is_none) => Err(vec![Fault::with_help(
            whole,
            "the condition reads no measurement: it is always the same",
            "compare a measurement such as `faithfulness_1h`",
        )]),
        [] => Err(vec![Fault::with_help(
            whole,
            "the condition reads only the baseline, nothing of the variant",
            "compare one of the variant's measurements with it: `cost_p95_1h > baseline*2`",
        )]),
        [only] => {
            for i in bare {
                out[i] = Some(Measurement { arm: Arm::Baseline, ..*only });
            }
            Ok(out)
        }
        [first, ..] => match bare.first() {
            Some(i) => Err(vec![Fault::with_help(
                tokens[*i].at,
                "`baseline` alone is ambiguous: the condition reads several measurements",
                format!("write `baseline({})`", identifier::name(first, catalogue)),
            )]),
            None => Ok(out),
        },
    }
}

fn is_baseline_argument(tokens: &[Token], i: usize) -> bool {
    i >= 2
        && tokens[i - 1].kind == TokenKind::Open
        && tokens[i - 2].kind == TokenKind::Name("baseline".to_owned())
}

enum Typed {
    Number(Expr),
    Truth(Expr),
}

struct Lower<'a> {
    text: &'a str,
    tokens: &'a [Token],
    operands: &'a [Option<Measurement>],
    next: usize,
    slots: Vec<Measurement>,
    equalities: Vec<Span>,
}

type Lowered = Result<(Typed, Span), Fault>;

impl Lower<'_> {
    fn root(&mut self, tree: &Tree) -> Result<Expr, Fault> {
        let [child] = tree.children() else {
            return Err(self.lost());
        };
        let (typed, at) = self.node(child)?;
        if self.next != self.tokens.len() {
            return Err(self.lost());
        }
        match typed {
            Typed::Truth(expr) => Ok(expr),
            Typed::Number(_) => Err(Fault::with_help(
                at,
                "the condition is a number, not true or false",
                format!("compare it: `{} > 0.1`", self.slice(at)),
            )),
        }
    }

    fn node(&mut self, tree: &Tree) -> Lowered {
        match (tree.operator(), tree.children()) {
            (Operator::RootNode, [inner]) => {
                let open = self.take()?;
                let (typed, _) = self.node(inner)?;
                let close = self.take()?;
                Ok((typed, open.at.to(close.at)))
            }
            (Operator::Const { .. } | Operator::VariableIdentifierRead { .. }, []) => self.operand(),
            (Operator::FunctionIdentifier { .. }, [_]) => {
                // The scan has seen to it that this is `baseline ( name )`.
                let function = self.take()?;
                self.take()?;
                let (typed, _) = self.operand()?;
                let close = self.take()?;
                Ok((typed, function.at.to(close.at)))
            }
            (Operator::Neg, [inner]) => self.negative(inner),
            (Operator::Not, [inner]) => self.not(inner),
            (operator, [left, right]) => {
                if let Some(op) = arithmetic(operator) {
                    self.arithmetic(op, left, right)
                } else if let Some(op) = comparison(operator) {
                    self.comparison(op, left, right)
                } else if matches!(operator, Operator::And | Operator::Or) {
                    self.junction(operator, left, right)
                } else {
                    Err(self.lost())
                }
            }
            _ => Err(self.lost()),
        }
    }

    fn operand(&mut self) -> Lowered {
        let i = self.next;
        let token = self.take()?;
        match (&token.kind, self.operands[i]) {
            (TokenKind::Number(value), _) => Ok((Typed::Number(Expr::Const(*value)), token.at)),
            (TokenKind::Name(_), Some(measurement)) => {
                let known = self.slots.iter().position(|slot| *slot == measurement);
                let slot = known.unwrap_or_else(|| {
                    self.slots.push(measurement);
                    self.slots.len() - 1
                });
                Ok((Typed::Number(Expr::Slot(slot)), token.at))
            }
            _ => Err(self.lost()),
        }
    }

    fn negative(&mut self, inner: &Tree) -> Lowered {
        let sign = self.take()?;
        let (typed, at) = self.node(inner)?;
        match typed {
            Typed::Number(Expr::Const(value)) => Ok((Typed::Number(Expr::Const(-value)), sign.at.to(at))),
            Typed::Number(expr) => Ok((Typed::Number(Expr::Neg(Box::new(expr))), sign.at.to(at))),
            Typed::Truth(_) => Err(self.not_a_number(at, "`-`")),
        }
    }

    fn not(&mut self, inner: &Tree) -> Lowered {
        let sign = self.take()?;
        let (typed, at) = self.node(inner)?;
        match typed {
            Typed::Truth(expr) => Ok((Typed::Truth(Expr::Not(Box::new(expr))), sign.at.to(at))),
            Typed::Number(_) => Err(Fault::with_help(
                sign.at.to(at),
                format!("`!` negates a comparison, `{}` is a number", self.slice(at)),
                "put the comparison in parentheses: `!(a < b)`",
            )),
        }
    }

    fn arithmetic(&mut self, op: Arith, left: &Tree, right: &Tree) -> Lowered {
        let chained = op == Arith::Pow && *left.operator() == Operator::Exp;
        let (l, l_at) = self.node(left)?;
        let sign = self.take()?;
        if chained {
            return Err(Fault::with_help(sign.at, "`a ^ b ^ c` can be read two ways", "use parentheses"));
        }
        let (r, r_at) = self.node(right)?;
        let name = format!("`{}`", self.slice(sign.at));
        let at = l_at.to(r_at);
        let (l, r) = match (l, r) {
            (Typed::Number(l), Typed::Number(r)) => (l, r),
            (Typed::Truth(_), _) => return Err(self.not_a_number(l_at, &name)),
            (_, Typed::Truth(_)) => return Err(self.not_a_number(r_at, &name)),
        };
        if let (Expr::Const(a), Expr::Const(b)) = (&l, &r) {
            let value = eval::arith(op, *a, *b);
            if !value.is_finite() {
                let what = self.slice(at);
                return Err(Fault::new(at, format!("`{what}` is not a finite number")));
            }
            return Ok((Typed::Number(Expr::Const(value)), at));
        }
        Ok((Typed::Number(Expr::Arith(op, Box::new(l), Box::new(r))), at))
    }

    fn comparison(&mut self, op: Compare, left: &Tree, right: &Tree) -> Lowered {
        let (l, l_at) = self.node(left)?;
        let sign = self.take()?;
        let (r, r_at) = self.node(right)?;
        if comparison(left.operator()).is_some() {
            let (first, second) = (self.slice(l_at), self.slice(sign.at.to(r_at)));
            let middle = left.children().len();
            let help = if middle == 2 {
                format!("write two comparisons joined by `&&`, not `{first} {second}`")
            } else {
                "write two comparisons joined by `&&`".to_owned()
            };
            return Err(Fault::with_help(sign.at, "comparisons cannot be chained", help));
        }
        let (l, r) = match (l, r) {
            (Typed::Number(l), Typed::Number(r)) => (l, r),
            (Typed::Truth(_), _) | (_, Typed::Truth(_)) => {
                return Err(Fault::with_help(
                    sign.at,
                    format!("`{}` compares numbers, not true or false", self.slice(sign.at)),
                    "join comparisons with `&&` or `||`",
                ));
            }
        };
        let at = l_at.to(r_at);
        if matches!((&l, &r), (Expr::Const(_), Expr::Const(_))) {
            return Err(Fault::new(at, "both sides are constants: the comparison is always the same"));
        }
        if matches!(op, Compare::Eq | Compare::Ne) {
            self.equalities.push(sign.at);
        }
        Ok((Typed::Truth(Expr::Compare(op, Box::new(l), Box::new(r))), at))
    }

    fn junction(&mut self, operator: &Operator, left: &Tree, right: &Tree) -> Lowered {
        let (l, l_at) = self.node(left)?;
        let sign = self.take()?;
        let (r, r_at) = self.node(right)?;
        let number = |at: Span| {
            Fault::with_help(
                at,
                format!("`{}` joins comparisons, `{}` is a number", self.slice(sign.at), self.slice(at)),
                format!("compare it: `{} > 0.1`", self.slice(at)),
            )
        };
        match (l, r) {
            (Typed::Truth(l), Typed::Truth(r)) => {
                let (l, r) = (Box::new(l), Box::new(r));
                let expr = if *operator == Operator::And { Expr::And(l, r) } else { Expr::Or(l, r) };
                Ok((Typed::Truth(expr), l_at.to(r_at)))
            }
            (Typed::Number(_), _) => Err(number(l_at)),
            (_, Typed::Number(_)) => Err(number(r_at)),
        }
    }

    fn take(&mut self) -> Result<Token, Fault> {
        let token = self.tokens.get(self.next).cloned().ok_or_else(|| self.lost())?;
        self.next += 1;
        Ok(token)
    }

    fn slice(&self, at: Span) -> &str {
        self.text.get(at.offset..at.end()).unwrap_or_default()
    }

    fn not_a_number(&self, at: Span, op: &str) -> Fault {
        Fault::with_help(
            at,
            format!("`{}` is true or false: {op} needs numbers", self.slice(at)),
            "join comparisons with `&&` or `||`",
        )
    }

    /// The tree is not what the scan has let through.
    fn lost(&self) -> Fault {
        Fault::with_help(
            Span::new(0, self.text.len()),
            "the condition cannot be read",
            "use parentheses to say what belongs together",
        )
    }
}

const fn arithmetic(operator: &Operator) -> Option<Arith> {
    Some(match operator {
        Operator::Add => Arith::Add,
        Operator::Sub => Arith::Sub,
        Operator::Mul => Arith::Mul,
        Operator::Div => Arith::Div,
        Operator::Mod => Arith::Rem,
        Operator::Exp => Arith::Pow,
        _ => return None,
    })
}

const fn comparison(operator: &Operator) -> Option<Compare> {
    Some(match operator {
        Operator::Lt => Compare::Lt,
        Operator::Leq => Compare::Le,
        Operator::Gt => Compare::Gt,
        Operator::Geq => Compare::Ge,
        Operator::Eq => Compare::Eq,
        Operator::Neq => Compare::Ne,
        _ => return None,
    })
}

/// `!` moved into the comparisons (De Morgan; unknown stays unknown) and measurements to the left.
pub(super) fn normal(expr: Expr, negate: bool, slots: &[Measurement]) -> Expr {
    match expr {
        Expr::Not(inner) => normal(*inner, !negate, slots),
        Expr::And(l, r) => junction(!negate, normal(*l, negate, slots), normal(*r, negate, slots)),
        Expr::Or(l, r) => junction(negate, normal(*l, negate, slots), normal(*r, negate, slots)),
        Expr::Compare(op, l, r) => {
            let op = if negate { inverse(op) } else { op };
            let own = |e: &Expr| matches!(e, Expr::Slot(i) if slots[*i].arm == Arm::Own);
            let bare = |e: &Expr| matches!(e, Expr::Slot(_));
            let flip = (own(&r) && !own(&l)) || (bare(&r) && matches!(*l, Expr::Const(_)));
            if flip { Expr::Compare(mirror(op), r, l) } else { Expr::Compare(op, l, r) }
        }
        number => number,
    }
}

fn junction(and: bool, l: Expr, r: Expr) -> Expr {
    if and { Expr::And(Box::new(l), Box::new(r)) } else { Expr::Or(Box::new(l), Box::new(r)) }
}

const fn inverse(op: Compare) -> Compare {
    match op {
        Compare::Lt => Compare::Ge,
        Compare::Le => Compare::Gt,
        Compare::Gt => Compare::Le,
        Compare::Ge => Compare::Lt,
        Compare::Eq => Compare::Ne,
        Compare::Ne => Compare::Eq,
    }
}

const fn mirror(op: Compare) -> Compare {
    match op {
        Compare::Lt => Compare::Gt,
        Compare::Le => Compare::Ge,
        Compare::Gt => Compare::Lt,
        Compare::Ge => Compare::Le,
        same => same,
    }
}
