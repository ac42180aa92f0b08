//! The report as JSON, with the numbers of every round.

use serde_json::{Value, json};

use super::{Goal, Report, Section};

/// The version of the format. It rises when a field gets another meaning.
const FORMAT: u32 = 2;

/// All numbers of the report.
pub fn render(report: &Report) -> Value {
    json!({
        "format": FORMAT,
        "date": report.date,
        "machine": report.machine,
        "command": report.command,
        "versions": report
            .versions
            .iter()
            .map(|(package, version)| (package.clone(), version.clone().into()))
            .collect::<serde_json::Map<String, Value>>(),
        "sections": report.sections.iter().map(section).collect::<Vec<_>>(),
    })
}

fn section(section: &Section) -> Value {
    json!({
        "name": section.name,
        "title": section.title,
        "about": section.about,
        "goals": section.goals.iter().map(goal).collect::<Vec<_>>(),
        "numbers": section.numbers,
    })
}

fn goal(goal: &Goal) -> Value {
    json!({
        "goal": goal.what,
        "limit": goal.limit,
        "measured": goal.measured,
        "reached": goal.is_met(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_each_section_are_there() {
        let json = render(&super::super::example());
        assert_eq!(json["versions"]["bus"], "2.4.1");
        assert_eq!(json["sections"][0]["numbers"]["rates"][0], 2.5);
        assert_eq!(json["sections"][0]["goals"][0]["reached"], false);
        assert_eq!(json["sections"][0]["goals"][0]["limit"]["AtLeast"], 1.2);
        assert_eq!(json["sections"][0]["goals"][1]["reached"], Value::Null);
    }
}
