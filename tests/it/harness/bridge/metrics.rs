//! Reading `/metrics`.

use crate::harness::Bridge;
use crate::harness::eventually::{SOON, eventually};

/// The samples of one scrape.
pub(crate) struct Metrics(String);

impl Metrics {
    /// The sum of the samples of `name` whose labels hold all of `labels`; nothing if there is none.
    pub(crate) fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let matching = self.0.lines().filter_map(|line| sample(line, name, labels));
        matching.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
    }

    /// The page.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

fn sample(line: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let rest = line.strip_prefix(name)?;
    let (set, value) = match rest.strip_prefix('{') {
        Some(rest) => rest.split_once("} ")?,
        None => ("", rest.strip_prefix(' ')?),
    };
    let has = |(label, value): &(&str, &str)| {
        let wanted = format!("{label}=\"{value}\"");
        set.match_indices(&wanted)
            .any(|(at, _)| at == 0 || set.as_bytes()[at - 1] == b',')
    };
    if !labels.iter().all(has) {
        return None;
    }
    value.split(' ').next()?.parse().ok()
}

impl Bridge {
    /// One scrape.
    pub(crate) async fn metrics(&self) -> Metrics {
        let (status, text) = self.admin_get("/metrics").await;
        assert_eq!(status, 200, "{text}");
        Metrics(text)
    }

    /// One metric of one scrape, 0 where it has no sample yet.
    pub(crate) async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.metrics().await.get(name, labels).unwrap_or_default()
    }

    /// Waits until a metric satisfies `check`.
    pub(crate) async fn metric_becomes(
        &self,
        name: &str,
        labels: &[(&str, &str)],
        check: impl Fn(f64) -> bool,
    ) {
        let what = format!("{name}{labels:?} becomes what it should");
        eventually(SOON, &what, async || check(self.metric(name, labels).await)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn samples_are_summed_by_their_labels() {
        let page = "# TYPE a counter\na_total{x=\"1\",y=\"2\"} 3\na_total{x=\"1\",y=\"3\"} 4\n\
                    b 5\nb_c 6\n";
        let metrics = Metrics(page.to_owned());
        assert_eq!(metrics.get("a_total", &[("x", "1")]), Some(7.0));
        assert_eq!(metrics.get("a_total", &[("y", "3")]), Some(4.0));
        assert_eq!(metrics.get("b", &[]), Some(5.0));
        assert_eq!(metrics.get("c", &[]), None);
    }
}
