//! Plans on made-up tables.

use lakesync_providers::lake::summary::Watermarks;

use super::*;

const NOW_MS: i64 = 100 * DAY_MS + DAY_MS / 2;

/// A snapshot of ours at so many hours before now.
fn ours(id: i64, hours_ago: i64) -> SnapshotInfo {
    SnapshotInfo {
        id,
        parent: (id > 1).then_some(id - 1),
        sequence_number: id,
        time_ms: NOW_MS - hours_ago * 60 * 60 * 1000,
        made_by: MadeBy::Us,
        marks: Watermarks::default(),
    }
}

fn named(name: &str, snapshot_id: i64) -> RefInfo {
    let branch = RefKind::Branch {
        min_snapshots: None,
        max_snapshot_age_ms: None,
    };
    RefInfo {
        name: name.to_owned(),
        snapshot_id,
        kind: if name == "main" { branch } else { RefKind::Tag },
        max_age_ms: None,
    }
}

/// All of the last day, one a day for so many days.
fn by_age(days: i64) -> Asked {
    Asked::Older {
        than_ms: NOW_MS - DAY_MS,
        newest_max: 100,
        retain_last: 0,
        daily_since_ms: Some(NOW_MS - days * DAY_MS),
    }
}

fn planned(snapshots: &[SnapshotInfo], refs: &[RefInfo], asked: &Asked) -> Expiry {
    plan(snapshots, refs, &BTreeSet::new(), asked, NOW_MS).unwrap()
}

/// Does what was planned.
fn done((snapshots, refs): (&mut Vec<SnapshotInfo>, &mut Vec<RefInfo>), planned: &Expiry) {
    refs.retain(|known| !planned.drop_refs.contains(&known.name));
    refs.extend(planned.tag.iter().map(|(name, id)| named(name, *id)));
    snapshots.retain(|known| !planned.expire.contains(&known.id));
    for known in refs.iter() {
        assert!(
            snapshots
                .iter()
                .any(|snapshot| snapshot.id == known.snapshot_id),
            "{known:?} names nothing"
        );
    }
}

#[test]
fn all_of_the_last_day_is_kept_and_then_the_last_of_each_day() {
    // Every six hours for ten days, the newest now.
    let mut snapshots: Vec<_> = (0..40).map(|nth| ours(nth + 1, (39 - nth) * 6)).collect();
    let mut refs = vec![named("main", 40)];
    let asked = by_age(5);
    let first = planned(&snapshots, &refs, &asked);
    let names: Vec<&str> = first.tag.iter().map(|(name, _)| name.as_str()).collect();
    let days = [
        "1970-04-06",
        "1970-04-07",
        "1970-04-08",
        "1970-04-09",
        "1970-04-10",
    ];
    let days = days.map(|day| format!("{DAILY}{day}"));
    assert_eq!(names[names.len() - 4..], days[..4]);
    done((&mut snapshots, &mut refs), &first);
    let kept: Vec<i64> = snapshots
        .iter()
        .map(|known| (NOW_MS - known.time_ms) / 3_600_000)
        .collect();
    assert_eq!(kept, [120, 114, 90, 66, 42, 24, 18, 12, 6, 0], "hours ago");
    let again = planned(&snapshots, &refs, &asked);
    assert_eq!(again, Expiry::default(), "what is done is done");
}

#[test]
fn as_long_as_nothing_is_as_old_as_the_window_the_first_snapshot_stays() {
    let snapshots: Vec<_> = (0..20).map(|nth| ours(nth + 1, (19 - nth) * 6)).collect();
    let refs = [named("main", 20)];
    let expiry = planned(&snapshots, &refs, &by_age(90));
    assert!(!expiry.expire.contains(&1) && expiry.expire.contains(&2));
    let log = Asked::Older {
        than_ms: NOW_MS,
        newest_max: 100,
        retain_last: 0,
        daily_since_ms: None,
    };
    let expiry = planned(&snapshots, &refs, &log);
    assert_eq!(expiry.expire, (1..20).collect::<Vec<i64>>());
    assert_eq!(expiry.tag, []);
}

#[test]
fn tags_branches_and_readers_keep_their_snapshots() {
    let snapshots: Vec<_> = (1..=10).map(|id| ours(id, 100_000 - id)).collect();
    let branch = RefInfo {
        kind: RefKind::Branch {
            min_snapshots: Some(2),
            max_snapshot_age_ms: None,
        },
        ..named("work", 5)
    };
    let overdue = RefInfo {
        max_age_ms: Some(DAY_MS),
        ..named("short", 8)
    };
    let refs = [named("main", 10), named("audit", 2), branch, overdue];
    let asked = Asked::Older {
        than_ms: NOW_MS,
        newest_max: 100,
        retain_last: 2,
        daily_since_ms: None,
    };
    let read = BTreeSet::from([7, 10]);
    let expiry = plan(&snapshots, &refs, &read, &asked, NOW_MS).unwrap();
    assert_eq!(expiry.expire, [1, 3, 6, 8]);
    assert_eq!(expiry.read, [7]);
    assert_eq!(expiry.drop_refs, ["short"]);
}

#[test]
fn the_source_of_anothers_replace_stays_with_it() {
    let mut snapshots: Vec<_> = (1..=4).map(|id| ours(id, 1_000)).collect();
    snapshots[3].made_by = MadeBy::OthersSameRows;
    snapshots[2].made_by = MadeBy::OthersSameRows;
    let refs = [named("main", 4)];
    let expiry = planned(&snapshots, &refs, &by_age(1));
    assert_eq!(
        expiry.expire,
        [1],
        "2 tells what 3 covers, and 3 what 4 does"
    );
    let these = Asked::These(BTreeSet::from([2]));
    let refused = plan(&snapshots, &refs, &BTreeSet::new(), &these, NOW_MS).unwrap_err();
    assert!(refused.reason.contains("another program"), "{refused:?}");
}

#[test]
fn what_is_asked_for_by_id_goes_or_is_refused_with_the_reason() {
    let snapshots: Vec<_> = (1..=4).map(|id| ours(id, 0)).collect();
    let refs = [named("main", 4), named("audit", 2)];
    let read = BTreeSet::from([3]);
    let ask = |id: i64| {
        let these = Asked::These(BTreeSet::from([id]));
        let planned = plan(&snapshots, &refs, &read, &these, NOW_MS);
        planned
            .map(|expiry| expiry.expire)
            .map_err(|refused| refused.reason)
    };
    assert_eq!(ask(1), Ok(vec![1]));
    for (id, reason) in [
        (2, "`audit` names it"),
        (3, "a query reads it"),
        (4, "what the table is now"),
        (5, "no such snapshot"),
    ] {
        let said = ask(id).unwrap_err();
        assert!(said.contains(reason), "{id}: {said}");
    }
}

#[test]
fn a_year_of_snapshots_is_bounded_and_the_window_is_always_covered() {
    let (mut snapshots, mut refs) = (Vec::new(), vec![named("main", 1)]);
    let hour_ms = 60 * 60 * 1000;
    for hour in 0..365 * 24_i64 {
        let now_ms = 1_000 * DAY_MS + hour * hour_ms;
        snapshots.push(SnapshotInfo {
            time_ms: now_ms,
            ..ours(hour + 1, 0)
        });
        refs[0].snapshot_id = hour + 1;
        if hour % 7 != 0 {
            continue;
        }
        let since_ms = now_ms - 90 * DAY_MS;
        let asked = Asked::Older {
            than_ms: now_ms - DAY_MS,
            newest_max: 1_000,
            retain_last: 1,
            daily_since_ms: Some(since_ms),
        };
        let read = BTreeSet::new();
        let expiry = plan(&snapshots, &refs, &read, &asked, now_ms).unwrap();
        done((&mut snapshots, &mut refs), &expiry);
        let again = plan(&snapshots, &refs, &read, &asked, now_ms).unwrap();
        assert_eq!(again, Expiry::default(), "hour {hour}");
        assert!(
            snapshots.len() <= 90 + 2 + 25 + 7,
            "{} at hour {hour}",
            snapshots.len()
        );
        let oldest = snapshots[0].time_ms;
        assert!(oldest <= since_ms || snapshots[0].id == 1, "hour {hour}");
        let gaps = snapshots
            .windows(2)
            .map(|two| two[1].time_ms - two[0].time_ms);
        assert!(gaps.max().unwrap_or(0) <= 2 * DAY_MS, "hour {hour}");
    }
}

#[test]
fn days_have_names_that_are_read_back() {
    for (day, text) in [
        (0, "1970-01-01"),
        (59, "1970-03-01"),
        (11_016, "2000-02-29"),
        (20_483, "2026-01-30"),
        (-1, "1969-12-31"),
    ] {
        assert_eq!(date_text(day), text);
        assert_eq!(day_of(&format!("{DAILY}{text}")), Some(day));
    }
    for name in [
        "daily-2026-02-30",
        "daily-2026-1-30",
        "daily-",
        "audit",
        "daily-2026-01-30x",
    ] {
        assert_eq!(day_of(name), None, "{name}");
    }
}
