//! Series as Prometheus' own types, made from plain numbers.

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use crate::stats::HistogramSnapshot;

pub(super) fn family(
    (name, help): (&str, &str),
    kind: MetricType,
    metrics: Vec<Metric>,
) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

pub(super) fn counter(labels: &[(&str, &str)], value: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(float(value));
    let mut metric = labelled(labels);
    metric.set_counter(counter);
    metric
}

pub(super) fn gauge(labels: &[(&str, &str)], value: u64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(float(value));
    let mut metric = labelled(labels);
    metric.set_gauge(gauge);
    metric
}

pub(super) fn histogram(
    labels: &[(&str, &str)],
    snapshot: &HistogramSnapshot,
    unit: f64,
) -> Metric {
    let mut below = 0;
    let buckets = snapshot.bounds.iter().zip(&snapshot.counts);
    let buckets = buckets.map(|(bound, count)| {
        below += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(float(*bound) / unit);
        bucket.set_cumulative_count(below);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(snapshot.count());
    histogram.set_sample_sum(float(snapshot.sum) / unit);
    let mut metric = labelled(labels);
    metric.set_histogram(histogram);
    metric
}

fn labelled(labels: &[(&str, &str)]) -> Metric {
    let labels = labels.iter().map(|(name, value)| {
        let mut label = LabelPair::default();
        label.set_name((*name).to_owned());
        label.set_value((*value).to_owned());
        label
    });
    Metric::from_label(labels.collect())
}

fn float(value: u64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "Prometheus' numbers are floats; counts beyond 2^53 lose their last digits"
    )]
    let float = value as f64;
    float
}
