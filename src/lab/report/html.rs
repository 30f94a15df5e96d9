//! The report as one page, which needs no network, no script and nothing beside it.

use super::figure::{Figure, Table};
use super::findings::{Chapter, Findings, planted_table, rig_sentences};
use super::markdown::NO_RIG_CHECK;
use super::origin::{self, Facts};
use super::{chart, escape};
use crate::lab::experiments::{Judgement, Verdict};
use crate::lab::method::record::Doubt;
use crate::lab::method::rig_check::RigCheck;
use crate::lab::method::store;

/// The page.
pub(super) fn page(findings: &Findings<'_>) -> String {
    let mut body = vec![format!("<header>\n<h1>{TITLE}</h1>")];
    body.push(description(&origin::head(findings.records)));
    body.extend(findings.warning().map(|text| format!("<p class=\"banner\">{}</p>", escape(text))));
    body.push("</header>".into());
    body.push(contents(findings));
    body.push("<main>".into());
    body.push(section("rig", "The rig itself: A against A", &rig(findings)));
    body.push(section("verdicts", "Verdicts", &verdicts(findings)));
    body.extend(
        findings
            .chapters
            .iter()
            .map(|one| section(&id(one), &escape(one.experiment.title()), &chapter(one))),
    );
    body.extend(
        findings.unknown().map(|unknown| format!("<p class=\"soft\">{}</p>", prose(&unknown))),
    );
    body.push(section(
        "environment",
        "Where it was measured",
        &facts(&origin::environment(findings.records)),
    ));
    body.push(section("method", "How it was measured", &method(findings)));
    body.push("</main>".into());
    let body = body.join("\n");
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{TITLE}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )
}

const TITLE: &str = "What the write path costs";
const STYLE: &str = include_str!("page.css");

fn section(id: &str, heading: &str, inner: &str) -> String {
    format!("<section>\n<h2 id=\"{id}\">{heading}</h2>\n{inner}\n</section>")
}

fn id(chapter: &Chapter<'_>) -> String {
    format!("experiment-{}", escape(chapter.experiment.name()))
}

fn contents(findings: &Findings<'_>) -> String {
    let entry = |id: &str, name: &str| format!("<li><a href=\"#{id}\">{}</a></li>", escape(name));
    let mut entries = vec![entry("rig", "The rig itself"), entry("verdicts", "Verdicts")];
    entries.extend(findings.chapters.iter().map(|one| entry(&id(one), one.experiment.title())));
    entries.push(entry("environment", "Where it was measured"));
    entries.push(entry("method", "How it was measured"));
    format!("<nav aria-label=\"Contents\">\n<ol>\n{}\n</ol>\n</nav>", entries.join("\n"))
}

fn rig(findings: &Findings<'_>) -> String {
    let chapter = findings.rig_chapter.as_ref();
    let check = match &findings.rig {
        Some(rig) => rig_check(rig),
        None => format!("<p class=\"banner\">{}</p>", escape(NO_RIG_CHECK)),
    };
    [chapter.map(question).unwrap_or_default(), check, chapter.map(answer).unwrap_or_default()]
        .join("\n")
}

fn rig_check(rig: &RigCheck) -> String {
    let (class, passed) = match rig.has_passed() {
        true => ("passed", "Passed"),
        false => ("failed", "Not passed: nothing below is to be trusted"),
    };
    let sentences = rig_sentences(rig).into_iter().map(|one| format!("<li>{}</li>", prose(&one)));
    format!(
        "<p><span class=\"verdict {class}\">{passed}.</span></p>\n\
         <ul>\n{}\n</ul>\n{}",
        sentences.collect::<Vec<String>>().join("\n"),
        planted_table(rig).as_ref().map(table).unwrap_or_default()
    )
}

fn verdicts(findings: &Findings<'_>) -> String {
    let row = |(chapter, judgement): (&Chapter<'_>, &Judgement)| {
        format!(
            "<tr><th scope=\"row\"><a href=\"#{}\">{}</a></th><td>{}</td><td>{}</td><td>{}</td></tr>",
            id(chapter),
            judgement.claim.unwrap_or("–"),
            prose(&judgement.statement),
            verdict(judgement.verdict),
            prose(&judgement.because)
        )
    };
    let all = findings.chapters.iter();
    let all = all.flat_map(|chapter| chapter.judgements.iter().map(move |one| (chapter, one)));
    let rows: Vec<String> = all.map(row).collect();
    if rows.is_empty() {
        return "<p>Nothing was judged.</p>".into();
    }
    format!(
        "<div class=\"scroll\"><table class=\"verdicts\">\n<thead><tr><th>claim</th>\
         <th>statement</th><th>verdict</th><th>because</th></tr></thead>\n<tbody>\n{}\n</tbody>\n\
         </table></div>",
        rows.join("\n")
    )
}

fn verdict(verdict: Verdict) -> String {
    format!("<span class=\"verdict {}\">{}</span>", class(verdict), verdict.name())
}

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Confirmed => "confirmed",
        Verdict::Refuted => "refuted",
        Verdict::Depends => "depends",
        Verdict::CannotBeJudged => "open",
    }
}

fn chapter(chapter: &Chapter<'_>) -> String {
    [question(chapter), answer(chapter)].join("\n")
}

fn question(chapter: &Chapter<'_>) -> String {
    format!("<p>{}</p>", prose(chapter.experiment.question()))
}

fn answer(chapter: &Chapter<'_>) -> String {
    let mut parts = Vec::new();
    if !chapter.judgements.is_empty() {
        let items: Vec<String> = chapter.judgements.iter().map(judgement).collect();
        parts.push(format!("<ul class=\"judgements\">\n{}\n</ul>", items.join("\n")));
    }
    parts.extend(chapter.doubts.iter().map(|(doubt, cells)| doubtful(doubt, cells)));
    parts.extend(chapter.tables.iter().map(table));
    parts.extend(chapter.figures.iter().map(figure));
    parts.extend(chapter.audits.as_ref().map(table));
    if !chapter.experiment.cannot_show().is_empty() {
        let limits = chapter.experiment.cannot_show().iter();
        let limits: Vec<String> = limits.map(|one| format!("<li>{}</li>", prose(one))).collect();
        parts.push(format!("<h3>What this cannot show</h3>\n<ul>\n{}\n</ul>", limits.join("\n")));
    }
    parts.push(format!(
        "<p class=\"soft\">{} All of them are in <a href=\"{}\">{}</a>, as experiment \
         <code>{}</code>.</p>",
        escape(&chapter.blocks),
        store::FILE_NAME,
        store::FILE_NAME,
        escape(chapter.experiment.name())
    ));
    parts.join("\n")
}

fn judgement(judgement: &Judgement) -> String {
    let claim = judgement.claim.map(|claim| format!("{claim} ")).unwrap_or_default();
    format!(
        "<li class=\"{}\">{}\n<p><strong>{claim}</strong>{}</p>\n<p class=\"soft\">{}</p></li>",
        class(judgement.verdict),
        verdict(judgement.verdict),
        prose(&judgement.statement),
        prose(&judgement.because)
    )
}

fn doubtful(doubt: &Doubt, cells: &[String]) -> String {
    format!(
        "<div class=\"doubt\"><strong>Doubt: {}</strong>\n<p>{}</p>\n<p class=\"soft\">{}</p></div>",
        escape(doubt.name()),
        prose(doubt.detail()),
        escape(&cells.join("; "))
    )
}

fn figure(figure: &Figure) -> String {
    format!(
        "<figure>\n<figcaption>{}</figcaption>\n<div class=\"scroll\">{}</div>\n</figure>",
        escape(figure.title()),
        chart::svg(figure)
    )
}

fn table(table: &Table) -> String {
    let columns =
        table.columns.iter().map(|name| format!("<th scope=\"col\">{}</th>", escape(name)));
    let row = |cells: &Vec<String>| {
        let cells = cells.iter().enumerate().map(|(place, cell)| match place {
            0 => format!("<th scope=\"row\">{}</th>", escape(cell)),
            _ => format!("<td>{}</td>", escape(cell)),
        });
        format!("<tr>{}</tr>", cells.collect::<String>())
    };
    let note = match table.note.as_str() {
        "" => String::new(),
        note => format!("\n<p class=\"note\">{}</p>", prose(note)),
    };
    format!(
        "<div class=\"part\"><div class=\"scroll\"><table class=\"figures\">\n\
         <caption>{}</caption>\n<thead><tr>{}</tr></thead>\n<tbody>\n{}\n</tbody>\n\
         </table></div>{note}</div>",
        escape(&table.title),
        columns.collect::<String>(),
        table.rows.iter().map(row).collect::<Vec<String>>().join("\n")
    )
}

fn method(findings: &Findings<'_>) -> String {
    let commands = origin::commands(findings.records);
    let commands = commands.iter().map(|line| format!("<li><code>{}</code></li>", escape(line)));
    format!(
        "<p>All of this was decided before the first measurement. Variants take turns in short \
         blocks, in random order; those of one round are compared with each other. Intervals are \
         bootstrapped over blocks. A difference of times is called one only if its interval, \
         Yuen's paired t test on the logarithms (trimmed by a seventh at each end, and corrected \
         by Holm for all comparisons of the experiment) and the threshold agree.</p>\n{}\n<h3>Commands</h3>\n<ul>\n{}\n</ul>",
        facts(&origin::method(findings.records)),
        commands.collect::<Vec<String>>().join("\n")
    )
}

fn facts(facts: &Facts) -> String {
    let rows = facts.iter().map(|(name, value)| {
        format!("<tr><th scope=\"row\">{}</th><td>{}</td></tr>", escape(name), escape(value))
    });
    format!(
        "<div class=\"scroll\"><table class=\"facts\">\n<tbody>\n{}\n</tbody>\n</table></div>",
        rows.collect::<Vec<String>>().join("\n")
    )
}

fn description(facts: &Facts) -> String {
    let items = facts
        .iter()
        .map(|(name, value)| format!("<dt>{}</dt><dd>{}</dd>", escape(name), escape(value)));
    format!("<dl>\n{}\n</dl>", items.collect::<Vec<String>>().join("\n"))
}

/// Text with what stands between backticks as code.
fn prose(text: &str) -> String {
    let escaped = escape(text);
    let parts: Vec<&str> = escaped.split('`').collect();
    if parts.len().is_multiple_of(2) {
        return escaped;
    }
    let coded = parts.iter().enumerate().map(|(place, part)| match place % 2 {
        1 => format!("<code>{part}</code>"),
        _ => part.to_string(),
    });
    coded.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_escaped_and_has_code() {
        let check = |text, expected: &str| assert_eq!(prose(text), expected);
        check("a < b & `c > d`", "a &lt; b &amp; <code>c &gt; d</code>");
        check("one ` alone", "one ` alone");
        check("", "");
    }
}
