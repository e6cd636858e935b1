//! Symbolic modes (`a+rX,go-w`), which `BuildKit` takes in `--chmod` and buildah 1.43 does not.

/// A mode of files that are made from here-documents.
const HEREDOC_MODE: u32 = 0o644;

/// Whether a text is a symbolic mode. It holds nothing then that is special to a shell.
pub(super) fn is_symbolic(mode: &str) -> bool {
    !mode.is_empty() && mode.split(',').all(|clause| clause_of(clause).is_some())
}

/// The octal mode that a symbolic one makes of a here-document.
pub(super) fn of_heredoc(mode: &str) -> Option<String> {
    let mut bits = HEREDOC_MODE;
    for clause in mode.split(',') {
        let (who, actions) = clause_of(clause)?;
        for (operator, permissions) in actions {
            bits = apply(bits, who, operator, permissions);
        }
    }
    Some(format!("{bits:04o}"))
}

/// Those whom a clause is for, one bit of 0o7 for each of user, group and others.
type Who = u32;
/// Operator and permissions of an action.
type Action<'a> = (char, &'a str);

fn clause_of(clause: &str) -> Option<(Who, Vec<Action<'_>>)> {
    let operators = ['+', '-', '='];
    let (who, mut rest) = clause.split_at(clause.find(operators)?);
    let mut bits = 0;
    for c in who.chars() {
        bits |= match c {
            'u' => 0o4,
            'g' => 0o2,
            'o' => 0o1,
            'a' => 0o7,
            _ => return None,
        };
    }
    let mut actions = Vec::new();
    while let Some(operator) = rest.chars().next() {
        let end = rest[1..].find(operators).map_or(rest.len(), |end| end + 1);
        let permissions = &rest[1..end];
        let copied = matches!(permissions, "u" | "g" | "o");
        if !copied && !permissions.chars().all(|c| "rwxXst".contains(c)) {
            return None;
        }
        actions.push((operator, permissions));
        rest = &rest[end..];
    }
    Some((if bits == 0 { 0o7 } else { bits }, actions))
}

fn apply(mode: u32, who: Who, operator: char, permissions: &str) -> u32 {
    let (mut each, mut special) = (0, 0);
    for c in permissions.chars() {
        match c {
            'r' => each |= 0o4,
            'w' => each |= 0o2,
            'x' => each |= 0o1,
            'X' if mode & 0o111 != 0 => each |= 0o1,
            's' => {
                special |= if who & 0o4 != 0 { 0o4000 } else { 0 } | if who & 0o2 != 0 { 0o2000 } else { 0 }
            }
            't' => special |= 0o1000,
            'u' => each |= mode >> 6 & 0o7,
            'g' => each |= mode >> 3 & 0o7,
            'o' => each |= mode & 0o7,
            _ => {}
        }
    }
    let spread = |bits: u32| {
        [0o4, 0o2, 0o1]
            .into_iter()
            .zip([6, 3, 0])
            .filter(|(bit, _)| who & bit != 0)
            .map(|(_, shift)| bits << shift)
            .sum::<u32>()
    };
    match operator {
        '+' => mode | spread(each) | special,
        '-' => mode & !(spread(each) | special),
        _ => mode & !spread(0o7) | spread(each) | special,
    }
}
