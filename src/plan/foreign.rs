//! Task files of other tools, known by their keys. Read as ours they would say something else: closed
//! issues would be done again, dependencies and states would be lost. So they are refused by name.

use serde_json::{Map, Value};

/// The tool whose file a JSON object is from, with what it is in that tool's words.
pub fn of_json(object: &Map<String, Value>) -> Option<&'static str> {
    let has = |key: &str| object.contains_key(key);
    let depends = object.get("dependencies").and_then(Value::as_array);
    let edge = |edge: &Value| edge.get("depends_on_id").is_some();
    if has("issue_type") || depends.is_some_and(|all| all.iter().any(edge)) {
        return Some("an issue of Beads");
    }
    let list = |value: &Value| value.get("tasks").is_some_and(Value::is_array);
    if list(&Value::Object(object.clone())) || object.values().any(list) {
        return Some("a file of Task Master");
    }
    if has("subject") && (has("blockedBy") || has("activeForm")) {
        return Some("a task of Claude Code");
    }
    if has("number") && has("state") && (has("url") || has("html_url") || has("body")) {
        return Some("an issue of GitHub");
    }
    None
}

/// The same of a Markdown file.
pub fn of_markdown(text: &str) -> Option<&'static str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (front, _) = text.strip_prefix("---")?.trim_start_matches('\r').split_once("\n---")?;
    let has = |key: &str| front.lines().any(|line| line.starts_with(key));
    (has("id:") && has("status:")).then_some("a task of Backlog.md")
}

/// What to say of such a file.
pub fn refusal(what: &str) -> String {
    format!("this is {what}, which cannot be imported: its states and dependencies would be lost")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn files_of_other_tools_are_known() {
        for (value, tool) in [
            (json!({"id": "bd-1", "title": "x", "status": "closed", "issue_type": "bug"}), "Beads"),
            (
                json!({"id": "a", "dependencies": [{"depends_on_id": "b", "type": "blocks"}]}),
                "Beads",
            ),
            (json!({"master": {"tasks": [{"id": 1}], "metadata": {}}}), "Task Master"),
            (json!({"tasks": [{"id": 1, "status": "done"}]}), "Task Master"),
            (
                json!({"id": "1", "subject": "x", "status": "pending", "blockedBy": []}),
                "Claude Code",
            ),
            (json!({"number": 12, "title": "x", "state": "CLOSED", "body": ""}), "GitHub"),
        ] {
            let known = of_json(value.as_object().unwrap()).unwrap_or_default();
            assert!(known.ends_with(tool), "{value}: {known}");
        }
        for value in [
            json!({"id": "W-1", "title": "x", "sh": "make", "after": ["W-0"]}),
            json!({"title": "x", "prompt": "y", "status": "mine", "tasks": 7}),
        ] {
            assert_eq!(of_json(value.as_object().unwrap()), None, "{value}");
        }
        let backlog = "---\nid: BACK-24.02\ntitle: x\nstatus: Done\n---\n- [ ] #1 holds\n";
        assert_eq!(of_markdown(backlog), Some("a task of Backlog.md"));
        for text in
            ["---\n\ndescription: \"x\"\n---\n- [ ] T001 y\n", "# Plan\n- [ ] id: x\n", "---"]
        {
            assert_eq!(of_markdown(text), None, "{text}");
        }
    }
}
