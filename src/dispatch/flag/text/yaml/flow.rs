//! A mapping in braces, on one line or several: its members are changed where they stand.

use serde_json::Value;

use super::{Node, Yaml, place};

/// A mapping in flow style.
pub struct Flow<'t> {
    text: &'t str,
    /// Where its brace opens.
    open: usize,
    entries: &'t [(Node, Node)],
}

impl<'t> Flow<'t> {
    /// The mapping of a node, if it is one in braces.
    pub fn of(text: &'t str, node: &'t Node) -> Option<Self> {
        let Yaml::Map(entries) = &node.value else { return None };
        let open = node.at.offset;
        text.get(open..)?.starts_with('{').then_some(Self { text, open, entries })
    }

    pub fn set(&self, key: &str, value: &Value) -> Result<String, String> {
        let (from, to, new) = match place(self.entries, key) {
            Some(place) => {
                let old = &self.entries[place].1;
                (old.at.offset, self.end(old)?, value.to_string())
            }
            // In front of the others, so that nobody has to know how they end.
            None => (self.open + 1, self.open + 1, format!(" {key}: {value},")),
        };
        Ok(format!("{}{new}{}", &self.text[..from], &self.text[to..]))
    }

    pub fn remove(&self, key: &str) -> Result<String, String> {
        let Some(place) = place(self.entries, key) else { return Ok(self.text.to_owned()) };
        let (own, value) = &self.entries[place];
        let (from, to) = match (self.entries.get(place + 1), place.checked_sub(1)) {
            (Some((next, _)), _) => (own.at.offset, next.at.offset),
            (None, Some(before)) => (self.end(&self.entries[before].1)?, self.end(value)?),
            (None, None) => (own.at.offset, self.end(value)?),
        };
        Ok(format!("{}{}", &self.text[..from], &self.text[to..]))
    }

    /// Where a value ends. Of a list or mapping in it only the opening bracket is known.
    fn end(&self, value: &Node) -> Result<usize, String> {
        match value.value {
            Yaml::List(_) | Yaml::Map(_) => closing(self.text, value.at.offset)
                .ok_or_else(|| "a bracket is not closed where it should be".to_owned()),
            _ => Ok(value.at.end()),
        }
    }
}

/// Behind the bracket that closes the one at `open`.
fn closing(text: &str, open: usize) -> Option<usize> {
    let (mut depth, mut quote, mut remark, mut escaped) = (0_usize, None, false, false);
    // What was before: a quote or a remark begins only where a word may.
    let (mut last, mut solid) = (' ', '{');
    for (at, c) in text.get(open..)?.char_indices() {
        match (quote, c) {
            _ if remark => remark = c != '\n',
            _ if escaped => escaped = false,
            (Some('"'), '\\') => escaped = true,
            // Two single quotes are one: the second opens anew.
            (Some(open), _) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '#') if last.is_whitespace() => remark = true,
            (None, '"' | '\'') if "{[,:".contains(solid) || (c == '\'' && last == '\'') => quote = Some(c),
            (None, '{' | '[') => depth += 1,
            (None, '}' | ']') => depth = depth.checked_sub(1)?,
            (None, _) => {}
        }
        if quote.is_none() && depth == 0 {
            return Some(open + at + c.len_utf8());
        }
        last = c;
        if !c.is_whitespace() && !remark {
            solid = c;
        }
    }
    None
}
