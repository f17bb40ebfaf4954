//! The tokens of a condition with their places, and everything that can be refused by looking at them alone.
//!
//! evalexpr gives no places and accepts more than a rule may be: this scan runs first, cuts exactly as evalexpr's own does,
//! and lets only well-formed sequences of numbers, names, operators and parentheses through to its parser.

use super::diagnostic::Span;

/// The longest condition that is read, in bytes.
pub const MAX_BYTES: usize = 1024;
/// The deepest nesting of parentheses and prefix operators.
pub const MAX_DEPTH: usize = 32;
/// The most operators: a chain `a + b + c …` makes a tree as deep as it is long.
pub const MAX_OPERATORS: usize = 64;

/// What is wrong with a condition, placed within its text.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    pub at: Span,
    pub message: String,
    pub help: Option<String>,
}

impl Fault {
    /// A fault without advice.
    pub fn new(at: Span, message: impl Into<String>) -> Self {
        Self { at, message: message.into(), help: None }
    }

    /// A fault with what would be right.
    pub fn with_help(at: Span, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { at, message: message.into(), help: Some(help.into()) }
    }
}

/// A token and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub kind: TokenKind,
    pub at: Span,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenKind {
    Number(f64),
    Name(String),
    Operator(&'static str),
    Open,
    Close,
}

/// The operators that a condition may hold, longest first.
const OPERATORS: [&str; 15] =
    ["<=", ">=", "==", "!=", "&&", "||", "<", ">", "+", "-", "*", "/", "%", "^", "!"];
/// Operators of evalexpr that change something or build something other than a truth value.
const ASSIGNMENTS: [&str; 8] = ["&&=", "||=", "+=", "-=", "*=", "/=", "%=", "^="];

/// Cuts a condition into tokens and checks that operands and operators alternate, parentheses close, and nothing is too
/// long, too deep or of another language.
pub fn scan(text: &str) -> Result<Vec<Token>, Fault> {
    if text.len() > MAX_BYTES {
        return Err(Fault::new(
            Span::new(0, text.len()),
            format!("the condition is {} bytes long; {MAX_BYTES} are allowed", text.len()),
        ));
    }
    let mut tokens = Vec::new();
    let mut place = 0;
    while let Some(first) = text[place..].chars().next() {
        if first.is_whitespace() {
            place += first.len_utf8();
            continue;
        }
        let token = next_token(text, place)?;
        place = token.at.end();
        tokens.push(token);
    }
    if tokens.is_empty() {
        return Err(Fault::with_help(
            Span::new(0, text.len()),
            "the condition is empty",
            "write a comparison such as `faithfulness_1h < 0.92`",
        ));
    }
    check_depth(&tokens)?;
    let mut operators = tokens.iter().filter(|t| matches!(t.kind, TokenKind::Operator(_)));
    if let Some(extra) = operators.nth(MAX_OPERATORS) {
        return Err(Fault::with_help(
            extra.at,
            format!("the condition has more than {MAX_OPERATORS} operators"),
            "write several rules",
        ));
    }
    check_order(text, &tokens)?;
    Ok(tokens)
}

fn next_token(text: &str, start: usize) -> Result<Token, Fault> {
    let rest = &text[start..];
    let token = |kind, len| Token { kind, at: Span::new(start, len) };
    match rest.as_bytes()[0] {
        b'(' => return Ok(token(TokenKind::Open, 1)),
        b')' => return Ok(token(TokenKind::Close, 1)),
        _ => {}
    }
    refuse_foreign(rest, start)?;
    if let Some(operator) = OPERATORS.iter().find(|op| rest.starts_with(**op)) {
        return Ok(token(TokenKind::Operator(operator), operator.len()));
    }
    let len = literal_len(rest);
    literal(&rest[..len], Span::new(start, len)).map(|kind| token(kind, len))
}

/// Refuses what evalexpr would read but a rule may not say.
fn refuse_foreign(rest: &str, start: usize) -> Result<(), Fault> {
    let fault = |len, message: &str, help: &str| Err(Fault::with_help(Span::new(start, len), message, help));
    if rest.starts_with("//") || rest.starts_with("/*") {
        return fault(
            2,
            "comments cannot stand inside a condition",
            "use a YAML comment (`# …`) above the rule",
        );
    }
    if let Some(op) = ASSIGNMENTS.iter().find(|op| rest.starts_with(**op)) {
        return fault(op.len(), "a condition cannot assign", "compare with `==`, `<`, `<=`, `>` or `>=`");
    }
    for (wrong, right) in [("=<", "<="), ("=>", ">="), ("≤", "<="), ("≥", ">="), ("≠", "!="), ("<>", "!=")]
    {
        if rest.starts_with(wrong) {
            return fault(wrong.len(), &format!("`{wrong}` is no operator"), &format!("write `{right}`"));
        }
    }
    if rest.starts_with('=') && !rest.starts_with("==") {
        return fault(
            1,
            "a condition cannot assign: `=` is not a comparison",
            "write `==`, or better `<` or `>`",
        );
    }
    for (single, double) in [("&", "&&"), ("|", "||")] {
        if rest.starts_with(single) && !rest.starts_with(double) {
            return fault(1, &format!("`{single}` is no operator"), &format!("write `{double}`"));
        }
    }
    match rest.chars().next() {
        Some('"' | '\'' | '`') => fault(1, "a condition holds no text", "compare measurements with numbers"),
        Some(';') => fault(
            1,
            "a condition is one expression: `;` cannot chain several",
            "join them with `&&` or `||`, or write two rules",
        ),
        Some(',') => fault(1, "`,` has no meaning here", "decimals are written with a point: `0.92`"),
        _ => Ok(()),
    }
}

/// How far a number or name reaches, cut as evalexpr cuts: up to white space or an operator; `1e-3` is one literal.
fn literal_len(rest: &str) -> usize {
    let plain = |s: &str| s.find(is_delimiter).unwrap_or(s.len());
    let first = plain(rest);
    let literal = &rest[..first];
    let exponent =
        literal.ends_with(['e', 'E']) && literal.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    if exponent && rest[first..].starts_with(['+', '-']) {
        let second = plain(&rest[first + 1..]);
        let whole = first + 1 + second;
        if rest[..whole].parse::<f64>().is_ok() {
            return whole;
        }
    }
    first
}

fn is_delimiter(c: char) -> bool {
    c.is_whitespace() || "+-*/%^()=!<>&|,;\"".contains(c)
}

fn literal(text: &str, at: Span) -> Result<TokenKind, Fault> {
    let lower = text.to_lowercase();
    match lower.as_str() {
        "true" | "false" => {
            return Err(Fault::with_help(
                at,
                format!("`{text}` is not a measurement"),
                "a condition compares measurements with numbers",
            ));
        }
        "inf" | "infinity" | "nan" => {
            return Err(Fault::new(at, format!("`{text}` is not a number that a rule may name")));
        }
        "and" | "or" | "not" => {
            let right = [("and", "&&"), ("or", "||"), ("not", "!")];
            let right = right.iter().find(|(w, _)| *w == lower).map_or("", |(_, op)| op);
            return Err(Fault::with_help(at, format!("`{text}` is no operator"), format!("write `{right}`")));
        }
        _ => {}
    }
    let digits_first = text.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    if digits_first {
        return number(text, at);
    }
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    if let Some((i, c)) = text.char_indices().find(|(_, c)| !good(*c)) {
        return Err(Fault::with_help(
            Span::new(at.offset + i, c.len_utf8()),
            format!("`{c}` cannot stand in a condition"),
            if c == '$' || c == '€' {
                "numbers carry no unit: write `0.05`"
            } else {
                "names hold letters, digits, `_` and `.`"
            },
        ));
    }
    Ok(TokenKind::Name(text.to_owned()))
}

fn number(text: &str, at: Span) -> Result<TokenKind, Fault> {
    if text.starts_with("0x") || text.starts_with("0X") {
        return Err(Fault::with_help(at, format!("`{text}` is not a decimal number"), "write it in decimal"));
    }
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(TokenKind::Number(value)),
        Ok(_) => Err(Fault::new(at, format!("`{text}` is too large a number"))),
        Err(_) if text.contains('_') && text.replace('_', "").parse::<f64>().is_ok() => {
            Err(Fault::with_help(
                at,
                format!("`{text}` is not a number"),
                format!("write `{}`", text.replace('_', "")),
            ))
        }
        Err(_) => {
            let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
            let help = if matches!(&text[digits.len()..], "m" | "h" | "d" | "w") {
                "a window belongs behind a metric: `faithfulness_1h`".to_owned()
            } else if digits.parse::<f64>().is_ok() {
                format!("numbers carry no unit: write `{digits}` in the metric's own unit")
            } else {
                "a name begins with a letter".to_owned()
            };
            Err(Fault::with_help(at, format!("`{text}` is neither a number nor a metric"), help))
        }
    }
}

/// Parentheses and prefix operators nest at most [`MAX_DEPTH`] deep; checked before any tree is built.
fn check_depth(tokens: &[Token]) -> Result<(), Fault> {
    let (mut open, mut prefixes) = (0usize, 0usize);
    for (i, token) in tokens.iter().enumerate() {
        match &token.kind {
            TokenKind::Open => open += 1,
            TokenKind::Close => open = open.saturating_sub(1),
            TokenKind::Operator("-" | "!") if is_prefix(tokens, i) => prefixes += 1,
            _ => prefixes = 0,
        }
        if open + prefixes > MAX_DEPTH {
            return Err(Fault::new(token.at, format!("the condition nests more than {MAX_DEPTH} deep")));
        }
    }
    Ok(())
}

/// Whether the operator at `i` stands where an operand is due, so that it is a sign or a `!`.
fn is_prefix(tokens: &[Token], i: usize) -> bool {
    i == 0 || matches!(tokens[i - 1].kind, TokenKind::Operator(_) | TokenKind::Open)
}

fn check_order(text: &str, tokens: &[Token]) -> Result<(), Fault> {
    let mut open: Vec<Span> = Vec::new();
    let mut operand_due = true;
    for (i, token) in tokens.iter().enumerate() {
        match (&token.kind, operand_due) {
            (TokenKind::Number(_), true) => operand_due = false,
            (TokenKind::Name(name), true) => {
                operand_due = false;
                check_call(name, tokens, i)?;
            }
            (TokenKind::Open, true) => open.push(token.at),
            (TokenKind::Open, false) if is_call(tokens, i) => {
                open.push(token.at);
                operand_due = true;
            }
            (TokenKind::Operator("-" | "!"), true) => {}
            (TokenKind::Operator("!"), false) => return Err(missing_operator(text, tokens, i)),
            (TokenKind::Operator(op), true) => return Err(missing_before(op, tokens, i)),
            (TokenKind::Operator(_), false) => operand_due = true,
            (TokenKind::Close, false) => {
                if open.pop().is_none() {
                    return Err(Fault::new(token.at, "this `)` closes nothing"));
                }
            }
            (TokenKind::Close, true) => return Err(missing_before(")", tokens, i)),
            _ => return Err(missing_operator(text, tokens, i)),
        }
    }
    if operand_due && let Some(last) = tokens.last() {
        return Err(missing_at_end(text, tokens, last));
    }
    match open.last() {
        Some(at) => Err(Fault::new(*at, "this `(` is never closed")),
        None => Ok(()),
    }
}

fn is_call(tokens: &[Token], open: usize) -> bool {
    open > 0 && matches!(tokens[open - 1].kind, TokenKind::Name(_))
}

/// A name before `(` must be `baseline`, around exactly one name.
fn check_call(name: &str, tokens: &[Token], i: usize) -> Result<(), Fault> {
    if tokens.get(i + 1).map(|t| &t.kind) != Some(&TokenKind::Open) {
        return Ok(());
    }
    let at = tokens[i].at;
    if name != "baseline" {
        return Err(Fault::with_help(
            at,
            format!("there is no function `{name}`"),
            "the only function is `baseline(<measurement>)`; quantiles are names such as `latency_p95_1h`",
        ));
    }
    let inner = tokens.get(i + 2).map(|t| &t.kind);
    let close = tokens.get(i + 3).map(|t| &t.kind);
    match (inner, close) {
        (Some(TokenKind::Name(inner)), Some(TokenKind::Close)) if inner != "baseline" => Ok(()),
        _ => Err(Fault::with_help(
            at,
            "`baseline(…)` takes the name of one measurement",
            "for example `baseline(cost_p95_1h)`",
        )),
    }
}

fn missing_before(what: &str, tokens: &[Token], i: usize) -> Fault {
    let at = tokens[i].at;
    let before = i.checked_sub(1).map(|p| &tokens[p]);
    match before.map(|t| &t.kind) {
        Some(TokenKind::Operator("%")) => percent(tokens, i - 1),
        Some(TokenKind::Open) if what == ")" => Fault::new(at, "there is nothing between these parentheses"),
        None => Fault::new(at, format!("something is missing before `{what}`")),
        Some(TokenKind::Operator(op)) => {
            Fault::new(at, format!("something is missing between `{op}` and `{what}`"))
        }
        Some(_) => Fault::new(at, format!("something is missing before `{what}`")),
    }
}

fn missing_at_end(text: &str, tokens: &[Token], last: &Token) -> Fault {
    let what = &text[last.at.offset..last.at.end()];
    if what == "%" {
        return percent(tokens, tokens.len() - 1);
    }
    Fault::new(last.at, format!("something is missing after `{what}`"))
}

fn percent(tokens: &[Token], i: usize) -> Fault {
    let help = match i.checked_sub(1).map(|p| &tokens[p].kind) {
        Some(TokenKind::Number(n)) => format!("`%` is the remainder; write `{}`", tidy(n / 100.0)),
        _ => "`%` is the remainder; write percentages as fractions, `0.92`".to_owned(),
    };
    Fault::with_help(tokens[i].at, "something is missing after `%`", help)
}

fn missing_operator(text: &str, tokens: &[Token], i: usize) -> Fault {
    let slice = |t: &Token| text[t.at.offset..t.at.end()].to_owned();
    let (before, here) = (slice(&tokens[i - 1]), slice(&tokens[i]));
    Fault::with_help(
        tokens[i].at,
        format!("an operator is missing between `{before}` and `{here}`"),
        "join comparisons with `&&` or `||`",
    )
}

/// A number as a person would write it: no digits that only binary fractions bring.
pub fn tidy(value: f64) -> String {
    let rounded: f64 = format!("{value:.11e}").parse().unwrap_or(value);
    format!("{rounded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_tidy() {
        assert_eq!(tidy(0.92 + 0.01), "0.93");
        assert_eq!(tidy(2.0 * 0.4), "0.8");
        assert_eq!(tidy(3500.0 * 1.1), "3850");
        assert_eq!(tidy(0.0), "0");
    }

    #[test]
    fn scientific_numbers_are_one_token() {
        let kinds =
            |text: &str| -> Vec<TokenKind> { scan(text).unwrap().into_iter().map(|t| t.kind).collect() };
        assert_eq!(kinds("1e-3"), [TokenKind::Number(1e-3)]);
        assert_eq!(kinds("2E+3"), [TokenKind::Number(2e3)]);
        assert_eq!(kinds("1 -3").len(), 3);
        assert_eq!(kinds("a-3").len(), 3);
        assert_eq!(kinds("ae-3").len(), 3);
    }
}
