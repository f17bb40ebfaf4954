//! The report as one page that needs nothing else: text, plots, no script.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use super::human::{decided, is_told, long, numbers, times, unknown};
use super::{Run, plot};
use crate::cli::output::{Trouble, count, utc};
use crate::dispatch::words;
use crate::engine::rule::Rule;
use crate::lab::journal::{Entry, Journal, Story, What};
use crate::model::flag::Scope;

/// Plots of one rule at most: a rule with `by:` may have hundreds of slices.
const PLOTS: usize = 50;

/// Makes the file, before anything is read: a wrong path is told at once.
pub fn create(path: &Path) -> Result<File, Trouble> {
    File::create(path)
        .map_err(|error| Trouble::wrong(format!("{}: cannot be written: {error}", path.display())))
}

/// Writes the page.
pub fn write(mut file: &File, run: &Run, journals: &[Journal]) -> Result<(), Trouble> {
    let written = file.write_all(page(run, journals).as_bytes());
    written.map_err(|error| Trouble::new(format!("the page could not be written: {error}")))
}

fn page(run: &Run, journals: &[Journal]) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>rearguard replay: {}</title><style>{STYLE}</style></head><body>\n",
        escaped(&run.events)
    );
    head(run, &mut out);
    for (set, journal) in journals.iter().enumerate() {
        if journals.len() > 1 {
            let _ = writeln!(out, "<h2>{}</h2>", escaped(&run.sets[set]));
        }
        rules(run, set, journal, &mut out);
    }
    out.push_str("</body></html>\n");
    out
}

fn head(run: &Run, out: &mut String) {
    let fates = run.rig.fates();
    let over = match run.span {
        Some((from, to)) => format!("{} to {} UTC, {}", utc(from), utc(to), long(to.since(from))),
        None => "no minute closed".to_owned(),
    };
    let _ = writeln!(
        out,
        "<h1>What the rules would have done</h1>\n<p>{} from <code>{}</code>, {over}</p>\n<table class=\"fates\"><tr>",
        count(fates.consumed, "event"),
        escaped(&run.events)
    );
    let fates = [
        ("in windows", fates.windowed),
        ("late", fates.late),
        ("duplicate", fates.duplicate),
        ("other variants", fates.other),
        ("no events", fates.dead_letter),
        ("refused", fates.refused),
        ("canaries", fates.canary),
    ];
    for (word, n) in fates {
        let _ = write!(out, "<td><b>{}</b><br>{word}</td>", words::count(n));
    }
    out.push_str("</tr></table>\n");
    for doubt in &run.doubts {
        let _ = writeln!(out, "<p class=\"doubt\">{}</p>", escaped(doubt));
    }
    out.push_str(LEGEND);
}

fn rules(run: &Run, set: usize, journal: &Journal, out: &mut String) {
    let stories = journal.stories();
    for rule in &run.rig.engines()[set].settings().rules.rules {
        let own: Vec<&&Story> = stories.iter().filter(|story| rule.is(&story.key)).collect();
        // Of many slices those with something to tell are drawn.
        let busy = |story: &&&&Story| rule.by.is_none() || !story.entries.is_empty();
        let drawn: Vec<_> = own.iter().filter(busy).take(PLOTS).collect();
        for story in &drawn {
            card(run, rule, story, out);
        }
        if let (Some(by), Some(rest)) = (rule.by, own.len().checked_sub(drawn.len()).filter(|n| *n > 0)) {
            let rest = count(rest as u64, by.as_str());
            let _ =
                writeln!(out, "<section>{}<p>{rest} more, not drawn</p></section>", title(rule, &Scope::All));
        }
    }
}

fn title(rule: &Rule, slice: &Scope) -> String {
    let slice = if *slice == Scope::All { String::new() } else { format!(" · {slice}") };
    let baseline = rule.baseline.as_ref().map(|b| format!(" · baseline {b}")).unwrap_or_default();
    format!(
        "<h3>{}<small>{}</small></h3><p><code>{}</code> → <b>{}</b></p>",
        escaped(rule.variant.as_str()),
        escaped(&format!("{slice}{baseline}")),
        escaped(&rule.condition.source),
        rule.action.as_str()
    )
}

fn card(run: &Run, rule: &Rule, story: &Story, out: &mut String) {
    let _ = writeln!(out, "<section>{}", title(rule, &story.key.slice));
    if let Some(span) = run.span {
        out.push_str(&plot::draw(story, span, run.onset));
        if !plot::has_curve(story) {
            out.push_str("<p class=\"note\">Several measurements: there is no one curve to draw.</p>");
        }
    }
    if story.entries.is_empty() {
        out.push_str("<p class=\"note\">Nothing happened.</p>");
    } else {
        out.push_str("<table class=\"story\">");
        let told = story.entries.iter().filter(|entry| is_told(entry, story));
        told.for_each(|entry| row(run, story, entry, out));
        out.push_str("</table>");
    }
    if let Some(unknown) = unknown(story) {
        let _ = write!(out, "<p class=\"note\">{}</p>", escaped(&unknown));
    }
    out.push_str("</section>\n");
}

fn row(run: &Run, story: &Story, entry: &Entry, out: &mut String) {
    let (class, said) = match &entry.what {
        What::Moved { from, to, why } => ("", format!("{} → {}: {why}", from.as_str(), to.as_str())),
        What::Decided { action, gate } => (action.as_str(), decided(*action, gate).1),
    };
    let times = match &entry.what {
        What::Moved { .. } => String::new(),
        What::Decided { .. } => format!("<br><small>{}</small>", escaped(&times(run, story, entry))),
    };
    let _ = write!(
        out,
        "<tr><td>{}</td><td class=\"{class}\">{}{times}</td></tr>",
        utc(entry.at),
        escaped(&format!("{said}{}", numbers(&entry.numbers)))
    );
}

/// Text for HTML.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const LEGEND: &str = r#"<p class="legend"><span><i class="value"></i> the measurement over its window</span>
<span><i class="band"></i> its 95 % confidence sequence</span>
<span><i class="limit"></i> its threshold</span>
<span><i class="wait"></i> in breach, waiting out <code>for</code></span>
<span><i class="pass"></i> pass</span>
<span><i class="breach"></i> breach</span>
<span><i class="unconfirmed"></i> true, not confirmed</span>
<span><i class="masked"></i> masked by a burst</span>
<span><i class="unknown"></i> unknown</span>
<span><i class="proof"></i> evidence D, by powers of ten</span>
<span><i class="enough"></i> c, the evidence that is enough</span>
Hover for more. Times are UTC.</p>
"#;

const STYLE: &str = "\
:root{--ink:#1c2430;--dim:#667085;--paper:#fff;--card:#f7f8fa;--line:#d9dee7;--value:#1f6feb;--limit:#8b5cf6;\
--good:#2da160;--bad:#d92d20;--doubt:#e8a13a;--none:#c3cad5;--masked:#c2409b;--proof:#0e7490}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--dim:#98a2b3;--paper:#12161d;--card:#1a202a;--line:#303846;\
--value:#6cb2ff;--limit:#b79cff;--good:#4cc38a;--bad:#ff6b5e;--doubt:#f2b858;--none:#4a5363;--masked:#f07ac8;--proof:#4fc3d9}}\
body{font:15px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:1020px;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.5rem;margin:0}h2{border-top:2px solid var(--line);padding-top:1rem}h3{margin:0}h3 small{font-weight:400;color:var(--dim)}\
section{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:1rem 1.2rem;margin:1rem 0}section p{margin:.3rem 0}\
code{font:13px ui-monospace,monospace}.note,.legend{color:var(--dim);font-size:13px}.doubt{color:var(--doubt)}\
table{border-collapse:collapse}.fates td{padding:.2rem 1.4rem .2rem 0;color:var(--dim)}.fates b{color:var(--ink);font-size:1.1rem}\
.story{font-size:13px}.story small{font-weight:400;color:var(--dim)}.story td{padding:.15rem 1rem .15rem 0;vertical-align:top}.story td:first-child{white-space:nowrap;color:var(--dim)}\
td.rollback{color:var(--bad);font-weight:600}td.pause_rollout,td.notify{color:var(--doubt);font-weight:600}\
svg{width:100%;height:auto;display:block;margin:.4rem 0}svg text{font:11px system-ui,sans-serif;fill:var(--dim)}\
.end{text-anchor:end}.middle{text-anchor:middle}.grid{stroke:var(--line);stroke-width:1;fill:none}\
path.value{stroke:var(--value);stroke-width:1.8;fill:none;stroke-linejoin:round}\
path.limit,path.enough{stroke:var(--limit);stroke-width:1.4;stroke-dasharray:5 4;fill:none}\
path.proof{stroke:var(--proof);stroke-width:1.8;fill:none;stroke-linejoin:round}path.band{fill:var(--value);opacity:.16}\
rect.wait{fill:var(--doubt);opacity:.3}rect.pass{fill:var(--good)}rect.breach{fill:var(--bad)}rect.unconfirmed{fill:var(--doubt)}\
rect.masked{fill:var(--masked)}rect.unknown{fill:var(--none)}path.rollback,path.pause_rollout,path.notify,path.withheld,path.onset{stroke-width:1.8;fill:none}\
path.rollback{stroke:var(--bad)}path.pause_rollout,path.notify{stroke:var(--doubt)}path.withheld,path.onset{stroke:var(--dim);stroke-dasharray:2 3}\
svg text.rollback{fill:var(--bad);font-weight:600}svg text.pause_rollout,svg text.notify{fill:var(--doubt);font-weight:600}\
.legend span{display:inline-block;margin-right:.9rem}.legend i{display:inline-block;width:14px;height:10px;margin-right:.2rem}.legend i.value{background:var(--value);height:3px;vertical-align:middle}\
.legend i.proof{background:var(--proof);height:3px;vertical-align:middle}.legend i.band{background:var(--value);opacity:.25}\
.legend i.masked{background:var(--masked)}.legend i.limit,.legend i.enough{border-top:2px dashed var(--limit);height:0;vertical-align:middle}.legend i.wait{background:var(--doubt);opacity:.3}\
.legend i.pass{background:var(--good)}.legend i.breach{background:var(--bad)}.legend i.unconfirmed{background:var(--doubt)}\
.legend i.unknown{background:var(--none)}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        assert_eq!(escaped("a < b && c > \"d\""), "a &lt; b &amp;&amp; c &gt; &quot;d&quot;");
    }
}
