//! A simulated month: what is on disk stays bounded, and every answer is what was pushed. The year is a figure of the
//! benches.

use lakesync_tests::year::{Measured, Plan, Year};

#[tokio::test(flavor = "multi_thread")]
async fn a_month_of_load_and_maintenance_stays_bounded_and_answers_right() {
    let plan = Plan::MONTH;
    let folder = tempfile::tempdir().unwrap();
    let mut year = Year::begin(folder.path(), plan).await;
    let (mut days, mut moments) = (Vec::new(), Vec::new());
    let (mut kept, mut gone) = (0, 0);
    for day in 0..plan.days {
        days.push(year.day(day).await);
        if day % 3 == 2 {
            year.check().await;
            moments.push(year.moment());
            for moment in &moments {
                match year.check_then(moment).await {
                    true => kept += 1,
                    false => gone += 1,
                }
            }
        }
    }
    eprintln!(
        "{kept} moments are kept, {gone} are gone; {} deltas came too late",
        year.refused
    );
    eprintln!("{:?}", days[days.len() - 1]);
    assert!(
        year.refused > 0,
        "somebody was away for longer than the late window"
    );
    bounded(&days, "files", |day| day.files);
    bounded(&days, "snapshots", |day| {
        day.base_snapshots + day.log_snapshots
    });
    bounded(&days, "bytes of data", |day| day.data_bytes);
    bounded(&days, "files of metadata", |day| day.metadata_files);
    // Each version of a table lists up to a hundred before it, and it takes longer than a month until all do.
    let heavy = days
        .iter()
        .find(|day| day.metadata_bytes > day.metadata_files * METADATA_BYTES_MAX);
    assert_eq!(heavy, None, "files of metadata are as small as ever");
    bounded(&days, "bytes of the durable log", |day| day.durable_bytes);
}

/// What a file of metadata takes at most on average: a hundred versions of some 170 bytes, snapshots and schemas.
const METADATA_BYTES_MAX: u64 = 32 << 10;

/// The last third has no more than the one before, but for what one more file weighs.
fn bounded(days: &[Measured], what: &str, of: impl Fn(&Measured) -> u64) {
    let most = |part: &[Measured]| part.iter().map(&of).max().unwrap();
    let third = days.len() / 3;
    let (before, last) = (most(&days[third..2 * third]), most(&days[2 * third..]));
    assert!(last * 4 <= before * 5, "{what}: {before}, then {last}");
}
