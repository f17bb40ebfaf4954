//! Times to act as a picture: per rule, the share of runs in which each judge had acted so many minutes after the onset.

use std::fmt::Write as _;

use super::human::{estimate, shifts};
use super::{Part, Report};
use crate::engine::rule::Rule;
use crate::lab::simulate::within_ten;

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 56.0;
/// Room for the names of curves.
const RIGHT: f64 = 290.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 44.0;
/// Told apart by people who see colours differently (Okabe & Ito), and dashed for plain rules.
const COLOURS: [&str; 7] = ["#0072b2", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#888888", "#444444"];
/// The first minute on the axis of time, which is logarithmic.
const FIRST: f64 = 1.0;

/// One picture for all rules that a regression moves.
pub fn draw(report: &Report<'_>) -> String {
    let rules: Vec<(&Part, usize, &Rule)> = report
        .parts
        .iter()
        .flat_map(|part| {
            let rules = part.plan.settings.rules.rules.iter().enumerate();
            rules.map(move |(place, rule)| (part, place, rule.as_ref()))
        })
        .filter(|(part, _, rule)| shifts(part, rule))
        .collect();
    let height = HEIGHT * rules.len().max(1) as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    for (number, (part, place, rule)) in rules.into_iter().enumerate() {
        let _ = write!(out, "<g transform=\"translate(0 {})\">", HEIGHT * number as f64);
        one_rule(report, part, place, rule, &mut out);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

fn one_rule(report: &Report<'_>, part: &Part, place: usize, rule: &Rule, out: &mut String) {
    let horizon = f64::from(part.outcome.horizon).max(FIRST + 1.0);
    let x = |minute: f64| {
        LEFT + (minute.max(FIRST) / FIRST).ln() / (horizon / FIRST).ln() * (WIDTH - LEFT - RIGHT)
    };
    let y = |share: f64| HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP);
    let title = format!("{}: {}, {}", rule.variant, rule.condition.source, rule.action.as_str());
    let _ = write!(out, "<text x=\"{LEFT}\" y=\"20\" font-weight=\"bold\">{}</text>", escaped(&title));
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for share in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let at = y(share);
        let _ = write!(
            out,
            "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{} %</text>",
            LEFT - 6.0,
            at + 4.0,
            share * 100.0
        );
    }
    for minute in [1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 600.0, 1_440.0, 4_320.0] {
        if minute <= horizon {
            let at = x(minute);
            let _ = write!(
                out,
                "<path d=\"M{at:.1} {TOP}V{bottom}\" stroke=\"#eee\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{minute}</text>",
                bottom + 16.0
            );
        }
    }
    let ten = x(f64::from(within_ten(report.config.timing.lateness)));
    let _ = write!(
        out,
        "<path d=\"M{ten:.1} {TOP}V{bottom}\" stroke=\"#c00\" stroke-dasharray=\"2 3\"><title>ten minutes from onset</title></path>\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">minutes from onset; dotted: ten, lateness counted</text>",
        f64::midpoint(LEFT, right),
        HEIGHT - 8.0
    );
    for (number, verdicts) in part.outcome.judges.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let dash = if verdicts.judge.is_engine() { "" } else { " stroke-dasharray=\"6 4\"" };
        let mut path = format!("M{:.1} {:.1}", x(FIRST), y(0.0));
        for (minute, share) in verdicts.rules[place].steps() {
            let _ = write!(path, "H{:.1}V{:.1}", x(f64::from(minute)), y(share));
        }
        let _ = write!(path, "H{right}");
        let _ =
            write!(out, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>");
        let at = TOP + 12.0 + 20.0 * number as f64;
        let falsely = part.outcome.per_1000_days(verdicts.rules[place].counts.acted);
        let _ = write!(
            out,
            "<path d=\"M{:.1} {:.1}h22\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/><text x=\"{:.1}\" y=\"{at:.1}\">{}: {} false</text>",
            right + 12.0,
            at - 4.0,
            right + 40.0,
            verdicts.judge.as_str(),
            estimate(falsely, 1.0, "")
        );
    }
    let _ = write!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"#555\">false: per 1,000 healthy days (95 %)</text>",
        right + 12.0,
        TOP + 16.0 + 20.0 * part.outcome.judges.len() as f64
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
