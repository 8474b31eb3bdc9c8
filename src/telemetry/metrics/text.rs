//! The Prometheus text format 0.0.4, made from OpenMetrics. They differ in what a counter is called in
//! its metadata, in types the older one does not know, in exemplars, and in the end mark.

/// Rewrites an OpenMetrics exposition.
pub(super) fn from_openmetrics(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut help = "";
    for line in openmetrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest;
        } else if let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        {
            metadata(&mut text, name, kind, help);
        } else if line.starts_with('#') {
            // UNIT and EOF are unknown to the older format.
        } else {
            text.push_str(line.split(" # {").next().unwrap_or(line));
            text.push('\n');
        }
    }
    text
}

fn metadata(text: &mut String, name: &str, kind: &str, help: &str) {
    let (suffix, kind) = match kind {
        "counter" => ("_total", "counter"),
        "info" => ("_info", "gauge"),
        "unknown" => ("", "untyped"),
        kind => ("", kind),
    };
    let help = help.split_once(' ').map_or("", |(_, help)| help);
    text.push_str(&format!(
        "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n"
    ));
}
