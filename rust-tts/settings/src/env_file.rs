//! Reads `.env` files. Nothing in a value is substituted: a key may have a `$`.
//!
//! A line is `NAME=value`, with spaces around the `=` and `export` before the name as people write them. An unquoted value
//! ends with its line, or before a ` #`. In single quotes everything stands for itself; in double quotes `\"`, `\\`, `\$`,
//! `\n`, `\r` and `\t` are one character. A name that is set twice has its last value. Libraries for this either substitute
//! variables or keep the quotes.

/// The variables of a file's text, in order. The error says which line is wrong, and never shows a value.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines();
    let mut variables = Vec::new();
    for (index, line) in lines.enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let problem = |problem: &str| format!("line {}: {problem}", index + 1);
        let (name, value) = line
            .split_once('=')
            .ok_or_else(|| problem("expected NAME=value"))?;
        let name = name.trim_end();
        let name = match name.strip_prefix("export") {
            Some(rest) if rest.starts_with(char::is_whitespace) => rest.trim_start(),
            _ => name,
        };
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || "'\"\0".contains(c)) {
            return Err(problem("expected a name without spaces before the ="));
        }
        let value = read_value(value.trim_start()).map_err(problem)?;
        if value.contains('\0') {
            return Err(problem("a value cannot hold a zero byte"));
        }
        variables.push((name.to_owned(), value));
    }
    Ok(variables)
}

fn read_value(text: &str) -> Result<String, &'static str> {
    let (value, rest) = match text.chars().next() {
        Some(quote @ ('\'' | '"')) => read_quoted(&text[1..], quote)?,
        Some('#') | None => return Ok(String::new()),
        Some(_) => {
            let comment = text
                .char_indices()
                .zip(text.chars().skip(1))
                .find_map(|((at, c), next)| (c.is_whitespace() && next == '#').then_some(at));
            return Ok(text[..comment.unwrap_or(text.len())].trim_end().to_owned());
        }
    };
    if rest.trim_start().is_empty() || rest.trim_start().starts_with('#') {
        return Ok(value);
    }
    Err("there is more after the closing quote")
}

/// The value up to the closing quote, and what follows it.
fn read_quoted(text: &str, quote: char) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        if c == quote {
            return Ok((value, &text[at + 1..]));
        }
        if quote == '"' && c == '\\' {
            match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 'r')) => value.push('\r'),
                Some((_, 't')) => value.push('\t'),
                Some((_, c @ ('"' | '\\' | '$'))) => value.push(c),
                Some((_, c)) => value.extend(['\\', c]),
                None => break,
            }
        } else {
            value.push(c);
        }
    }
    Err("a quote is not closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(line: &str) -> Result<String, String> {
        let mut variables = parse(line)?;
        assert_eq!(variables.len(), 1, "{line}");
        let (name, value) = variables.remove(0);
        assert_eq!(name, "A", "{line}");
        Ok(value)
    }

    #[test]
    fn test_dollar_signs_are_not_substituted() {
        for text in ["$ecretToken99", "pa$word1", "${HOME}", "$(id)", "a$$b", "$"] {
            for line in [
                format!("A={text}"),
                format!("A='{text}'"),
                format!("A=\"{text}\""),
            ] {
                assert_eq!(value(&line).as_deref(), Ok(text), "{line}");
            }
        }
    }

    #[test]
    fn test_env_line_spellings() {
        for (line, read) in [
            ("A=b", "b"),
            ("  A = b  ", "b"),
            ("export A=b", "b"),
            ("export\tA = b", "b"),
            ("\u{feff}A=b\r\n", "b"),
            ("A=b # comment", "b"),
            ("A=b#c", "b#c"),
            ("A=#comment", ""),
            ("A= # comment", ""),
            ("A=", ""),
            ("A=a b  c", "a b  c"),
            ("A=ü # ö", "ü"),
            ("A=b=c==", "b=c=="),
            ("A='b # c' # d", "b # c"),
            ("A=\"b # c\"# d", "b # c"),
            ("A='a\\nb'", "a\\nb"),
            (r#"A="a\nb\\\"\$\d""#, "a\nb\\\"$\\d"),
            ("A=it's", "it's"),
            (r"A=C:\new", r"C:\new"),
            ("A=''", ""),
            ("# first\n\nA=b\n#last", "b"),
        ] {
            assert_eq!(value(line).as_deref(), Ok(read), "{line:?}");
        }
    }

    #[test]
    fn test_errors_name_line_and_show_no_value() {
        for (text, problem) in [
            ("B=1\nsecret", "line 2: expected NAME=value"),
            ("THIS IS = 'secret\n", "line 1: expected a name"),
            ("=secret", "line 1: expected a name"),
            ("A='secret", "line 1: a quote is not closed"),
            ("A=\"secret\\", "line 1: a quote is not closed"),
            ("A='secret' more", "line 1: there is more"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(problem), "{text:?}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn test_repeated_name_keeps_last_value_last() {
        let both = parse("A=1\nA=2").unwrap();
        assert_eq!(both, [("A".into(), "1".into()), ("A".into(), "2".into())]);
    }
}
