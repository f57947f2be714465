//! Rules as a whole: who sees what, at what cost, and what changes when they do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lakesync_proto::{
    ClaimValue, Claims, ColumnName, RowId, TableDefinition, TableName, TableSchema, Value,
};
use serde_json::json;

use super::*;

mod histories;
mod legacy;
mod memory;
mod scenarios;
mod scene;
mod schema_changes;

type State = (RowId, Option<BTreeMap<ColumnName, Value>>);

fn table(name: &str) -> TableName {
    TableName::parse(name).unwrap()
}

fn schema(name: &str, columns: &str) -> Arc<TableSchema> {
    let columns: Vec<_> = columns
        .split(' ')
        .map(|column| column.split_once(':').unwrap())
        .map(|(name, column_type)| json!({"name": name, "type": column_type}))
        .collect();
    let json = json!({"table": name, "columns": columns}).to_string();
    let definition = TableDefinition::from_json(json.as_bytes()).unwrap();
    Arc::new(TableSchema::from_definition(&definition).unwrap())
}

fn schemas() -> Vec<Arc<TableSchema>> {
    vec![
        schema("todos", "owner:string level:long done:boolean"),
        schema("notes", "owner:string text:string"),
    ]
}

fn set(buckets: serde_json::Value) -> RuleSet {
    let json = json!({"version": 1, "buckets": buckets}).to_string();
    RuleSet::from_json(json.as_bytes()).unwrap()
}

fn rules(buckets: serde_json::Value) -> Rules {
    Rules::compile(set(buckets), &schemas()).unwrap()
}

fn row(id: &str, values: &[(&str, Value)]) -> State {
    let named = |(name, value): &(&str, Value)| (ColumnName::parse(name).unwrap(), value.clone());
    let values = values.iter().map(named).collect();
    (RowId::parse(id).unwrap(), Some(values))
}

fn texts(values: &[&str]) -> Vec<ClaimValue> {
    let values = values.iter();
    values.map(|v| ClaimValue::Text((*v).to_owned())).collect()
}

fn sub(name: &str) -> Claims {
    let mut claims = Claims::new();
    claims.set("sub", texts(&[name]));
    claims
}

fn seen(rules: &Rules, name: &str, row: State, claims: &Claims) -> bool {
    let membership = &rules.memberships(&table(name), &[row])[0];
    rules.audience(claims).sees(membership)
}

const MINE: &str = "owner = jwt('sub')";

#[test]
fn without_rules_or_buckets_everything_passes() {
    for rules in [Rules::none(), rules(json!([]))] {
        let todos = table("todos");
        let audience = rules.audience(&Claims::new());
        assert!(audience.is_everything());
        assert_eq!(audience.rules(), rules.version());
        assert!(!rules.is_ruled(&todos) && !rules.guards_writes(&todos));
        let memberships = rules.memberships(&todos, &[row("r", &[])]);
        assert!(audience.sees(&memberships[0]) && audience.may_write(&memberships[0]));
        assert!(rules.columns(&todos).is_empty());
    }
}

#[test]
fn a_row_is_seen_by_those_whose_claims_fit() {
    let rules = rules(json!([
        {"name": "mine", "tables": ["todos"], "where": MINE},
        {"name": "level", "tables": ["todos"],
            "filters": [{"column": "level", "op": "lte", "value": "jwt:level"}]},
        {"name": "done", "tables": ["todos"], "where": "done and jwt('role') = 'lead'"},
    ]));
    let todo = |owner: &str, level: i64, done: bool| {
        let values = [
            ("owner", owner.into()),
            ("level", level.into()),
            ("done", done.into()),
        ];
        row("r", &values)
    };
    let mut level = Claims::new();
    level.set("level", vec![ClaimValue::Number(3.0)]);
    let mut lead = sub("cleo");
    lead.set("role", texts(&["member", "lead"]));
    let cases = [
        (sub("ada"), todo("ada", 9, false), true),
        (sub("ada"), todo("ben", 9, true), false),
        (level.clone(), todo("ben", 3, false), true),
        (level, todo("ben", 4, false), false),
        (lead.clone(), todo("ben", 9, true), true),
        (lead, todo("ben", 9, false), false),
        (Claims::new(), todo("ada", 1, true), false),
    ];
    for (claims, todo, expected) in cases {
        assert_eq!(seen(&rules, "todos", todo, &claims), expected, "{claims:?}");
    }
    let columns: BTreeSet<&str> = rules
        .columns(&table("todos"))
        .iter()
        .map(ColumnName::as_str)
        .collect();
    assert_eq!(columns, BTreeSet::from(["owner", "level", "done"]));
    // A table that no bucket names is nobody's, and so is a row that is not there.
    assert!(!seen(
        &rules,
        "notes",
        row("r", &[("owner", "ada".into())]),
        &sub("ada")
    ));
    let gone = (RowId::parse("r").unwrap(), None);
    assert_eq!(
        rules.memberships(&table("todos"), &[gone]),
        [Membership::NONE]
    );
}

#[test]
fn writes_are_guarded_in_the_tables_of_buckets_that_say_so() {
    let rules = rules(json!([
        {"name": "mine", "tables": ["todos"], "where": MINE, "write": true},
        {"name": "all", "tables": []},
    ]));
    let (todos, notes) = (table("todos"), table("notes"));
    assert!(rules.guards_writes(&todos) && !rules.guards_writes(&notes));
    let rows = [
        row("a", &[("owner", "ada".into())]),
        row("b", &[("owner", "ben".into())]),
    ];
    let memberships = rules.memberships(&todos, &rows);
    let ada = rules.audience(&sub("ada"));
    let may = |membership| (ada.sees(membership), ada.may_write(membership));
    assert_eq!(may(&memberships[0]), (true, true));
    assert_eq!(may(&memberships[1]), (true, false));
}

#[test]
fn rules_that_do_not_fit_the_tables_are_refused_by_name() {
    let refused = |buckets| {
        Rules::compile(set(buckets), &schemas())
            .unwrap_err()
            .message
    };
    let text = refused(json!([{"name": "b", "tables": ["todos"], "where": "nope = 1"}]));
    for part in [
        "bucket `b`",
        "table `todos`",
        "line 1, column 1",
        "no column `nope`",
    ] {
        assert!(text.contains(part), "{text}");
    }
    let long = json!([{"column": "level", "op": "gt", "value": "12abc"}]);
    let text = refused(json!([{"name": "b", "tables": ["todos"], "filters": long}]));
    assert!(text.contains("no long"), "{text}");
    let text = refused(json!([{"name": "b", "where": "nope = 1"}]));
    assert!(text.contains("no column `nope`"), "{text}");
    // One for all tables holds those that it fits; a table that is not there yet may be named.
    let fits = rules(json!([
        {"name": "b", "where": "done"},
        {"name": "later", "tables": ["later"], "where": "x = 1"},
    ]));
    let done = || row("r", &[("done", true.into())]);
    assert!(seen(&fits, "todos", done(), &Claims::new()));
    assert!(!seen(&fits, "notes", done(), &Claims::new()));
}

#[test]
fn stored_memberships_outlive_a_change_of_the_schema() {
    let first = rules(json!([{"name": "mine", "where": MINE}]));
    let todos = table("todos");
    let held = first.memberships(&todos, &[row("r", &[("owner", "ada".into())])]);
    let mut more = schemas();
    more.insert(0, schema("earlier", "owner:string"));
    more[1] = schema("todos", "added:long owner:string");
    let second = first.recompile(&more);
    assert!(second.faults().is_empty());
    assert!(second.audience(&sub("ada")).sees(&held[0]));
    assert!(!second.audience(&sub("ben")).sees(&held[0]));
    let dropped = vec![schema("todos", "added:long")];
    let named = rules(json!([{"name": "mine", "tables": ["todos"], "where": MINE}]));
    let third = named.recompile(&dropped);
    assert!(
        third.faults()[0].contains("no column `owner`"),
        "{:?}",
        third.faults()
    );
    assert!(!seen(&third, "todos", row("r", &[]), &sub("ada")));
}

#[test]
fn an_audience_goes_on_when_tables_come() {
    let buckets = json!([
        {"name": "mine", "tables": [], "where": MINE},
        {"name": "later", "tables": ["later"], "where": "org = jwt('org')"},
    ]);
    let first = rules(buckets);
    let mut claims = sub("ada");
    claims.set("org", texts(&["o"]));
    let ada = first.audience(&claims);
    let mut more = schemas();
    more.push(schema("later", "org:string"));
    let second = first.recompile(&more);
    assert!(Arc::ptr_eq(&ada, &second.audience(&claims)));
    let held = second.memberships(&table("later"), &[row("r", &[("org", "o".into())])]);
    assert!(ada.sees(&held[0]), "a connection keeps its audience");
    // When a bucket loses a table, who looked through it begins anew.
    let third = second.recompile(&more[..1]);
    let fresh = third.audience(&claims);
    assert!(!Arc::ptr_eq(&ada, &fresh) && !fresh.sees(&held[0]));
    assert_eq!(ada.claims(), fresh.claims());
}

#[test]
fn bytes_of_others_show_nothing() {
    let rules = rules(json!([
        {"name": "a", "tables": ["todos"], "where": "level <= jwt('level') and owner = jwt('sub')"},
    ]));
    let mut claims = sub("ada");
    claims.set("level", texts(&["3"]));
    let ada = rules.audience(&claims);
    let todo = row("r", &[("owner", "ada".into()), ("level", 2_i64.into())]);
    let held = rules.memberships(&table("todos"), &[todo]).remove(0);
    assert!(ada.sees(&held));
    for at in 0..held.0.len() {
        let mut broken = held.clone();
        broken.0[at] ^= 0x55;
        // The value 2 read as another small number may be seen; nothing else may.
        let entry = broken.entries().next();
        let seen = entry.is_some_and(|entry| entry.values == b"[2]");
        assert!(seen || at >= held.0.len() - 2 || !ada.sees(&broken), "{at}");
        assert!(!ada.sees(&Membership(held.0[..at].to_vec())));
    }
}

#[test]
fn ten_thousand_clients_cost_no_more_evaluations_than_one() {
    let rules = rules(json!([
        {"name": "mine", "tables": ["todos"], "where": "owner = jwt('sub') and not done"},
        {"name": "team", "tables": ["notes"],
            "filters": [{"column": "owner", "op": "in", "value": "jwt:sub"}]},
    ]));
    let owned = |n: usize| {
        let owner = format!("client-{}", n % 5_000);
        row(
            &format!("r{n}"),
            &[("owner", owner.into()), ("done", false.into())],
        )
    };
    let rows: Vec<State> = (0..100).map(owned).collect();
    let memberships = rules.memberships(&table("todos"), &rows);
    assert_eq!(rules.evaluations(), 100, "one a row and condition");
    let mut seen = 0;
    for client in 0..10_000 {
        let audience = rules.audience(&sub(&format!("client-{client}")));
        seen += memberships
            .iter()
            .filter(|held| audience.sees(held))
            .count();
    }
    assert_eq!(seen, 100, "each row has one owner");
    assert_eq!(rules.evaluations(), 100, "looking up evaluates nothing");
}

#[test]
fn a_condition_on_values_is_evaluated_once_a_value() {
    let rules =
        rules(json!([{"name": "l", "tables": ["todos"], "where": "level <= jwt('level')"}]));
    let rows: Vec<State> = (0..500_i64)
        .map(|n| row(&format!("r{n}"), &[("level", (n % 5).into())]))
        .collect();
    let memberships = rules.memberships(&table("todos"), &rows);
    let mut claims = Claims::new();
    claims.set("level", vec![ClaimValue::Number(2.0)]);
    let audience = rules.audience(&claims);
    let seen = memberships
        .iter()
        .filter(|held| audience.sees(held))
        .count();
    assert_eq!((seen, rules.evaluations()), (300, 5));
}

#[test]
fn equal_claims_are_one_audience() {
    let rules = rules(json!([
        {"name": "a", "tables": ["todos"], "where": "owner = jwt('teams')"},
        {"name": "b", "tables": ["notes"],
            "filters": [{"column": "owner", "op": "gt", "value": "jwt:ranks"}]},
    ]));
    let claims = |teams: &[&str], ranks: &[&str], other: &str| {
        let mut claims = sub(other);
        claims.set("teams", texts(teams));
        claims.set("ranks", texts(ranks));
        rules.audience(&claims)
    };
    let one = claims(&["a", "b"], &["1", "2"], "ada");
    assert!(Arc::ptr_eq(
        &one,
        &claims(&["b", "a", "b"], &["1", "2"], "ben")
    ));
    assert_ne!(
        one.claims(),
        claims(&["a", "b"], &["2", "1"], "ada").claims()
    );
    assert_ne!(one.claims(), claims(&["ab"], &["1", "2"], "ada").claims());
    assert_ne!(one.claims(), claims(&[], &["1", "2"], "ada").claims());
    assert_ne!(one.claims(), 0);
    let mut number = sub("ada");
    number.set("teams", vec![ClaimValue::Number(1.0)]);
    assert_ne!(
        rules.audience(&number).claims(),
        claims(&["1"], &[], "").claims()
    );
}

#[test]
fn what_a_client_must_load_again() {
    let all = || json!({"name": "all", "tables": ["notes"]});
    let mine = |sql: &str| json!({"name": "mine", "tables": ["todos"], "where": sql});
    let first = rules(json!([mine(MINE), all()]));
    let (ada, ben) = (sub("ada"), sub("ben"));
    let held = first.audience(&ada).claims();
    let tables = |names: &[&str]| Changed::Tables(names.iter().map(|name| table(name)).collect());
    let changed = |new: &Rules, claims| changed_tables(&first, new, held, claims);

    assert_eq!(changed(&first, &ada), Changed::Nothing);
    assert_eq!(changed(&first, &ben), tables(&["todos"]));
    let renamed = rules(json!([
        all(),
        {"name": "other", "tables": ["todos"], "where": MINE, "write": true},
    ]));
    assert_eq!(changed(&renamed, &ada), Changed::Nothing);
    assert_eq!(changed(&renamed, &ben), tables(&["todos"]));
    let narrower = rules(json!([mine("owner = jwt('sub') and done"), all()]));
    assert_eq!(changed(&narrower, &ada), tables(&["todos"]));
    assert_eq!(
        changed(&rules(json!([mine(MINE)])), &ada),
        tables(&["notes"])
    );
    // Everything, or a bucket that holds everything, is the same to see.
    let none = Rules::none();
    assert_eq!(changed(&none, &ada), tables(&["todos"]));
    assert_eq!(changed_tables(&none, &first, 0, &ada), tables(&["todos"]));
    assert_eq!(
        changed_tables(&none, &rules(json!([])), 0, &ada),
        Changed::Nothing
    );
    // A claim that only the new rules look at: they are other rules already.
    let more = rules(
        json!([mine(MINE), {"name": "org", "tables": ["notes"], "where": "text = jwt('org')"}]),
    );
    assert_eq!(changed(&more, &ada), tables(&["notes"]));
}

#[test]
fn an_explanation_says_what_the_index_says() {
    let rules = rules(json!([
        {"name": "mine", "tables": ["todos"], "write": true,
            "where": "(owner = jwt('sub') and not done) or (level > jwt('level') and jwt('role') = 'lead')"},
        {"name": "public", "tables": ["todos"],
            "filters": [{"column": "owner", "op": "eq", "value": "everybody"}]},
    ]));
    let todos = table("todos");
    let mut lead = sub("cleo");
    lead.set("role", texts(&["lead"]));
    lead.set("level", texts(&["2"]));
    let holders = [sub("ada"), lead, Claims::new()];
    let mut rows = vec![(RowId::parse("gone").unwrap(), None)];
    for owner in ["ada", "everybody"] {
        for (level, done) in [(1_i64, false), (3, false), (3, true)] {
            let values = [
                ("owner", owner.into()),
                ("level", level.into()),
                ("done", done.into()),
            ];
            rows.push(row("r", &values));
        }
    }
    for claims in &holders {
        let audience = rules.audience(claims);
        for row in &rows {
            let answer = explain(&rules, &todos, row, claims);
            let held = &rules.memberships(&todos, std::slice::from_ref(row))[0];
            let buckets = answer["buckets"].as_array().unwrap();
            let matched = |bucket: &serde_json::Value| bucket["matched"] == true;
            assert_eq!(answer["visible"], audience.sees(held), "{answer:#}");
            assert_eq!(
                buckets.iter().any(matched),
                audience.sees(held),
                "{answer:#}"
            );
            assert_eq!(matched(&buckets[0]), audience.may_write(held), "{answer:#}");
            assert_eq!(answer["writable"], audience.may_write(held));
        }
    }
    let answer = explain(&rules, &todos, &rows[1], &holders[0]);
    let key = &answer["buckets"][0]["terms"][0]["keys"][0];
    let expected = json!({"column": "owner", "claim": "sub", "value": "ada", "claimValues": ["ada"], "equal": true});
    assert_eq!(*key, expected);
    assert_eq!(answer["row"]["level"], 1);
    let second = &answer["buckets"][0]["terms"][1];
    assert_eq!(
        second["claimCondition"],
        json!({"text": "level > jwt('level')", "holds": false})
    );
    let answer = explain(&Rules::none(), &todos, &rows[1], &holders[0]);
    assert_eq!(
        (&answer["visible"], &answer["writable"]),
        (&json!(true), &json!(true))
    );
}

/// Xorshift: the same rules and rows every time.
struct Random(u64);

impl Random {
    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        &all[usize::try_from(self.0 % u64::try_from(all.len()).unwrap()).unwrap()]
    }
}

/// A filter's column, operator and value.
type FilterWords = (&'static str, &'static str, &'static str);

/// Whether one filter holds, by its words; all values are numbers below ten.
fn holds(filter: FilterWords, row: &State, claims: &Claims) -> bool {
    let (column, op, value) = filter;
    let Some(left) = row.1.as_ref().unwrap().get(column) else {
        return false;
    };
    let left = left.text().unwrap();
    let right: Vec<String> = match value.strip_prefix("jwt:") {
        None => vec![value.to_owned()],
        Some(claim) => match claims.get(claim) {
            None => return false,
            Some(values) => values
                .iter()
                .map(|value| match value {
                    ClaimValue::Text(text) => text.clone(),
                    other => panic!("{other:?}"),
                })
                .collect(),
        },
    };
    match op {
        "eq" | "in" => right.contains(&left),
        "neq" => !right.contains(&left),
        "gt" => left > right[0],
        _ => left <= right[0],
    }
}

#[test]
fn random_buckets_hold_what_their_filters_say() {
    let random = &mut Random(0x9e37_79b9_7f4a_7c15);
    let schemas = vec![
        schema("t", "a:string b:long"),
        schema("u", "a:string b:long"),
    ];
    let digits = ["1", "2", "3"];
    let (mut checked, mut seen) = (0, 0);
    for _ in 0..150 {
        let buckets: Vec<(Vec<&str>, Vec<FilterWords>)> = (0..3)
            .map(|_| {
                let tables = random.of(&[vec!["t"], vec!["u"], vec![]]).clone();
                let filters = (0..*random.of(&[0, 1, 1, 2]))
                    .map(|_| {
                        let column = *random.of(&["a", "b"]);
                        let op = *random.of(&["eq", "in", "neq", "gt", "lte"]);
                        (
                            column,
                            op,
                            *random.of(&["1", "2", "jwt:one", "jwt:some", "jwt:no"]),
                        )
                    })
                    .collect();
                (tables, filters)
            })
            .collect();
        let json = buckets.iter().enumerate().map(|(n, (tables, filters))| {
            let filters: Vec<_> = filters
                .iter()
                .map(|(column, op, value)| json!({"column": column, "op": op, "value": value}))
                .collect();
            json!({"name": format!("b{n}"), "tables": tables, "filters": filters})
        });
        let rules = Rules::compile(set(json.collect()), &schemas).unwrap();
        let rows: Vec<State> = (0..8)
            .map(|n| {
                let long: i64 = random.of(&digits).parse().unwrap();
                let values = [("a", Value::from(*random.of(&digits))), ("b", long.into())];
                row(&format!("r{n}"), &values[*random.of(&[0, 0, 1])..])
            })
            .collect();
        for name in ["t", "u"] {
            let memberships = rules.memberships(&table(name), &rows);
            let mut claims = Claims::new();
            claims.set("one", texts(&[*random.of(&digits)]));
            claims.set("some", texts(&[*random.of(&digits), *random.of(&digits)]));
            let audience = rules.audience(&claims);
            for (row, membership) in rows.iter().zip(&memberships) {
                let expected = buckets.iter().any(|(tables, filters)| {
                    (tables.is_empty() || tables.contains(&name))
                        && filters.iter().all(|filter| holds(*filter, row, &claims))
                });
                let found = audience.sees(membership);
                assert_eq!(found, expected, "{buckets:?} {row:?} {claims:?}");
                checked += 1;
                seen += usize::from(found);
            }
        }
    }
    assert!(
        seen * 10 > checked && seen * 10 < checked * 9,
        "{seen} of {checked}"
    );
}
