//! Conditions against what they say, one by one and at random against a slow evaluator that shares no code with them.

use std::collections::BTreeMap;
use std::sync::Arc;

use lakesync_proto::{ClaimValue, Claims, ColumnName, RowId, TableDefinition, TableSchema, Value};

use super::*;

fn schema() -> Arc<TableSchema> {
    let json = br#"{"table":"t","columns":[
        {"name":"s","type":"string"},{"name":"n","type":"long"},{"name":"x","type":"number"},
        {"name":"b","type":"boolean"},{"name":"j","type":"json"},{"name":"d","type":"decimal(6,2)"},
        {"name":"day","type":"date"},{"name":"ownerId","type":"string"}]}"#;
    let definition = TableDefinition::from_json(json).unwrap();
    Arc::new(TableSchema::from_definition(&definition).unwrap())
}

type Values = BTreeMap<ColumnName, Value>;

fn row(values: &[(&str, Value)]) -> Values {
    let named = |(name, value): &(&str, Value)| (ColumnName::parse(name).unwrap(), value.clone());
    values.iter().map(named).collect()
}

fn text(text: &str) -> ClaimValue {
    ClaimValue::Text(text.to_owned())
}

fn claims(claims: &[(&str, &[ClaimValue])]) -> Claims {
    let mut all = Claims::new();
    for (name, values) in claims {
        all.set(*name, values.to_vec());
    }
    all
}

fn sql(condition: &str) -> Predicate {
    Predicate::compile(&schema(), &[], Some(condition)).unwrap()
}

fn filter(column: &str, op: FilterOp, value: &str) -> Filter {
    Filter {
        column: column.to_owned(),
        op,
        value: value.to_owned(),
    }
}

/// For which rows a predicate holds: what the sync rules do, without their indexes.
fn matching(predicate: &Predicate, rows: &[Values], claims: &Claims) -> Vec<bool> {
    let ids: Vec<RowId> = (0..rows.len())
        .map(|row| RowId::parse(&format!("row-{row}")).unwrap())
        .collect();
    let rows: Vec<Row<'_>> = ids.iter().zip(rows).collect();
    let part = |rows: Rows<'_>| {
        let mut holding = vec![false; rows.len()];
        for term in predicate.terms() {
            let passes = |gate: &ClaimCondition| gate.bind(claims).is_some_and(|b| b.holds(&[]));
            if !term.gate().is_none_or(passes) {
                continue;
            }
            let on_row = term.row().map(|row| row.matches(&rows));
            let bound = term.claim().map(|claim| claim.bind(claims));
            for (at, holds) in holding.iter_mut().enumerate() {
                let equal = |key: &Key| {
                    let wanted = claim_values(claims, &key.claim, key.field.column_type);
                    wanted.contains(&rows.value(at, &key.field))
                };
                let claimed = |bound: &Option<Bound>| {
                    bound.as_ref().is_some_and(|bound| {
                        let fields = bound.fields().iter();
                        let values: Vec<Value> =
                            fields.map(|field| rows.value(at, field)).collect();
                        bound.holds(&values)
                    })
                };
                *holds |= on_row.as_ref().is_none_or(|on_row| on_row[at])
                    && term.keys().iter().all(equal)
                    && bound.as_ref().is_none_or(claimed);
            }
        }
        holding
    };
    Rows::parts(&rows).flat_map(part).collect()
}

fn holds(condition: &str, values: &[(&str, Value)], held: &[(&str, &[ClaimValue])]) -> bool {
    matching(&sql(condition), &[row(values)], &claims(held)) == [true]
}

#[test]
fn a_condition_is_divided_by_who_decides_it() {
    let predicate = sql(
        "s = jwt('sub') and jwt('org') = row_id and b = false and jwt('role') = 'lead' and n <= jwt('level')",
    );
    let [term] = predicate.terms() else {
        panic!("{predicate:?}");
    };
    let keys: Vec<_> = term
        .keys()
        .iter()
        .map(|key| (key.field.name(), key.claim.as_str()))
        .collect();
    assert_eq!(keys, [("s", "sub"), ("row_id", "org")]);
    assert_eq!(term.row().unwrap().to_string(), "b = false");
    assert_eq!(term.gate().unwrap().to_string(), "lead IN jwt('role')");
    assert_eq!(term.claim().unwrap().to_string(), "n <= jwt('level')");
    assert_eq!(predicate.claims().len(), 4);
    let alternatives = sql("b and (s = jwt('sub') or not (n <> 1 and x = 2))");
    assert_eq!(alternatives.terms().len(), 3);
}

#[test]
fn a_claim_that_is_missing_makes_false_what_asks_for_it() {
    let values = [("s", Value::from("a"))];
    for condition in [
        "s = jwt('m')",
        "s <> jwt('m')",
        "not (s = jwt('m'))",
        "s not in (jwt('m'))",
        "s < jwt('m')",
        "jwt('m') is null",
        "coalesce(jwt('m'), 'a') = s",
        "jwt('m') = 'a' or jwt('m') <> 'a'",
        "not jwt('m')",
    ] {
        assert!(!holds(condition, &values, &[]), "{condition}");
        let alternative = format!("s = 'a' or {condition}");
        assert!(holds(&alternative, &values, &[]), "{alternative}");
    }
    let neq = [filter("s", FilterOp::Neq, "jwt:m")];
    let neq = Predicate::compile(&schema(), &neq, None).unwrap();
    assert_eq!(matching(&neq, &[row(&values)], &Claims::new()), [false]);
}

#[test]
fn a_list_is_any_of_it_or_none_of_it() {
    let teams: &[ClaimValue] = &[text("a"), text("b")];
    let held: &[(&str, &[ClaimValue])] = &[("teams", teams), ("one", &teams[..1])];
    let cases = [
        ("s = jwt('teams')", [true, true, false]),
        ("s in (jwt('teams'))", [true, true, false]),
        ("s in ('c', jwt('teams'))", [true, true, true]),
        ("s in (jwt('one'), jwt('teams'))", [true, true, false]),
        (
            "upper(s) = upper(s) and s = jwt('teams')",
            [true, true, false],
        ),
        ("s <> jwt('teams')", [false, false, true]),
        ("s not in (jwt('teams'))", [false, false, true]),
        ("not (s = jwt('teams'))", [false, false, true]),
        ("not (s <> jwt('teams'))", [true, true, false]),
        // Of an order of a list nobody knows what it means.
        ("s >= jwt('teams')", [false; 3]),
        ("not (s >= jwt('teams'))", [false; 3]),
        ("s >= jwt('one')", [true; 3]),
        (
            "jwt('teams') in ('b', 'x') and s = 'a'",
            [true, false, false],
        ),
        ("jwt('teams') = 'b' and s = 'a'", [true, false, false]),
        ("jwt('teams') not in ('b', 'x')", [false; 3]),
        ("jwt('teams') not in ('x', 'y')", [true; 3]),
        (
            "case when s = jwt('teams') then true end",
            [true, true, false],
        ),
    ];
    let rows = ["a", "b", "c"].map(|s| row(&[("s", Value::from(s))]));
    for (condition, expected) in cases {
        let found = matching(&sql(condition), &rows, &claims(held));
        assert_eq!(found, expected, "{condition}");
    }
    for (op, expected) in [
        (FilterOp::Eq, [true, true, false]),
        (FilterOp::In, [true, true, false]),
        (FilterOp::Neq, [false, false, true]),
        (FilterOp::Gt, [false, true, true]),
        (FilterOp::Lte, [true, false, false]),
    ] {
        let filters = [filter("s", op, "jwt:teams")];
        let predicate = Predicate::compile(&schema(), &filters, None).unwrap();
        let found = matching(&predicate, &rows, &claims(held));
        assert_eq!(found, expected, "{op:?}");
        assert_eq!(predicate.claims()["teams"], op.list_order());
    }
}

#[test]
fn a_claim_has_the_type_of_what_it_meets() {
    let number = |n| [ClaimValue::Number(n)];
    let long = [("n", Value::Long(12))];
    for (condition, claim, expected) in [
        ("n = jwt('c')", &[text("12")][..], true),
        ("n = jwt('c')", &[text("12abc")], false),
        ("n <> jwt('c')", &[text("12abc")], false),
        ("n > jwt('c')", &[text("9")], true),
        ("n > jwt('c')", &[text("9 apples")], false),
        ("n = jwt('c')", &[text("x"), text("12")], true),
        ("n <> jwt('c')", &[text("x"), text("13")], false),
        ("n + 1 = jwt('c')", &number(13.0), true),
        ("n between jwt('c') and 20", &number(12.0), true),
        ("n between 0 and jwt('c')", &number(11.0), false),
        ("jwt('c') between n and 20", &number(13.0), true),
        ("jwt('c')::bigint - 1 = n", &[text("13")], true),
        ("cast(jwt('c') as bigint) = 12", &[text("12abc")], false),
        ("jwt('c')", &[ClaimValue::Boolean(true)], true),
        ("not jwt('c')", &[text("false")], true),
        ("jwt('c') and n = 12", &[text("true")], true),
        ("length(jwt('c')) = n - 10", &[text("ab")], true),
        ("cast(n as varchar) like jwt('c')", &[text("1%")], true),
        ("n is distinct from jwt('c')", &[text("13")], true),
    ] {
        assert_eq!(
            holds(condition, &long, &[("c", claim)]),
            expected,
            "{condition} {claim:?}"
        );
    }
    let others = [
        ("x = jwt('c')", ("x", Value::Number(-0.0)), text("0")),
        ("x = 0", ("x", Value::Number(-0.0)), text("")),
        ("x < jwt('c')", ("x", Value::Number(1.5)), text("2e0")),
        (
            "j = jwt('c')",
            ("j", Value::Json("\"a\"".to_owned())),
            text("a"),
        ),
        (
            "day >= jwt('c')",
            ("day", Value::Date(1)),
            text("1970-01-02"),
        ),
        (
            "\"ownerId\" = jwt('c')",
            ("ownerId", Value::from("é")),
            text("é"),
        ),
        ("t.s = jwt('c')", ("s", Value::from("12")), text("12")),
    ];
    for (condition, value, claim) in others {
        assert!(
            holds(condition, &[value], &[("c", &[claim])]),
            "{condition}"
        );
    }
}

#[test]
fn the_claims_of_a_text_are_those_of_its_conditions() {
    let text =
        "s = jwt('sub') or JWT ( 'org''s' ) = s and \"jwt\"('x') <> 'jwt(''y'')' -- jwt('z')";
    let found = claims_in(text).unwrap();
    assert_eq!(found, ["sub", "org's", "x"].map(str::to_owned));
    let compiled: Vec<String> = sql(text).claims().keys().cloned().collect();
    assert_eq!(compiled, ["org's", "sub", "x"]);
}

#[test]
fn null_equals_nothing() {
    for condition in ["s = jwt('c')", "s <> jwt('c')", "s <> 'x'", "not (s = 'x')"] {
        assert!(
            !holds(condition, &[], &[("c", &[text("a")])]),
            "{condition}"
        );
    }
    assert!(holds("s is null", &[], &[]));
}

#[test]
fn a_row_that_cannot_be_evaluated_is_out_and_the_others_stay() {
    let rows: Vec<Values> = (0..9).map(|n| row(&[("n", Value::Long(n - 4))])).collect();
    let found = matching(&sql("100 / n > 30"), &rows, &Claims::new());
    let expected: Vec<bool> = (-4..=4_i64).map(|n| (1..=3).contains(&n)).collect();
    assert_eq!(found, expected);
}

#[test]
fn what_is_no_condition_is_refused_with_its_place() {
    let refused = |sql: &str| {
        let error = Predicate::compile(&schema(), &[], Some(sql)).unwrap_err();
        error.to_string()
    };
    let cases = [
        (
            "s = 'a' and\n  nope = 1",
            "line 2, column 3: there is no column `nope`",
        ),
        ("ownerId = 'a'", "needs double quotes"),
        ("s = ", "Expected: an expression"),
        ("s = 'a' 5", "5"),
        ("s = 'a", "Unterminated"),
        ("n", "is a Int64, and a condition is true or false"),
        ("jwt('a')::bigint", "condition is true or false"),
        ("count(*) > 1", "an aggregate looks at other rows"),
        ("row_number() over () = 1", "a window looks at other rows"),
        ("exists (select 1)", "subquery"),
        ("n in (select 1)", "subquery"),
        ("n = (select 1)", "subquery"),
        (
            "random() > 0.5",
            "line 1, column 1: random is another value tomorrow",
        ),
        ("day < current_date", "another value tomorrow"),
        ("now() > '2020-01-01'", "another value tomorrow"),
        ("s = jwt(s)", "jwt takes the name of one claim"),
        ("s = jwt('')", "jwt takes the name of one claim"),
        ("s = jwt('a', 'b')", "jwt takes the name of one claim"),
        ("s = $1", "there are no other parameters"),
        ("s = 'a' as yes", "a condition has no name"),
        ("nosuch(s)", "nosuch"),
        (
            "repeat(s, n) = 'aa'",
            "line 1, column 1: repeat makes as much as a number",
        ),
        ("day = jwt('a') + s", ""),
        ("", "expression"),
    ];
    for (condition, reason) in cases {
        let found = refused(condition);
        assert!(found.contains(reason), "{condition:?}: {found}");
    }
    let bad = |filter: Filter| {
        let error = Predicate::compile(&schema(), &[filter], None).unwrap_err();
        error.to_string()
    };
    assert!(bad(filter("nope", FilterOp::Eq, "a")).contains("no column `nope`"));
    assert!(bad(filter("n", FilterOp::Gt, "12abc")).contains("its value is no long"));
}

#[test]
fn deep_and_long_conditions_end_in_an_answer() {
    let long = vec!["n = 1"; 240].join(" or ");
    let predicate = sql(&long);
    assert_eq!(predicate.terms().len(), 1, "too many to take apart");
    let rows = [row(&[("n", Value::Long(1))]), row(&[])];
    assert_eq!(matching(&predicate, &rows, &Claims::new()), [true, false]);
    let levels = format!("{} > jwt('c')", vec!["n"; 45].join(" + "));
    let held: &[(&str, &[ClaimValue])] = &[("c", &[ClaimValue::Number(44.0)])];
    assert!(holds(&levels, &[("n", Value::Long(1))], held));
    for condition in [
        vec!["n = 1"; 100_000].join(" or "),
        vec!["n"; 100_000].join(" + "),
        format!("{}n = 1{}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("{}b", "not ".repeat(100_000)),
        format!("{} = 1", vec!["n"; 400].join(" + ")),
        format!("n{} = 1", "::bigint".repeat(300)),
        format!("{}b", "not ".repeat(200)),
    ] {
        Predicate::compile(&schema(), &[], Some(&condition)).unwrap_err();
    }
}

#[test]
fn too_many_alternatives_mean_the_same_as_few() {
    let either = |count: usize| {
        let parts: Vec<String> = (0..count).map(|n| format!("s = jwt('c{n}')")).collect();
        parts.join(" or ")
    };
    let (few, many) = (sql(&either(32)), sql(&either(40)));
    assert_eq!((few.terms().len(), many.terms().len()), (32, 1));
    let held = claims(&[("c7", &[text("a"), text("b")])]);
    let rows = ["a", "b", "c"].map(|s| row(&[("s", Value::from(s))]));
    for predicate in [few, many] {
        assert_eq!(matching(&predicate, &rows, &held), [true, true, false]);
    }
}

/// Xorshift: the same histories every time.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(n).unwrap()).unwrap()
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// A condition as a tree, with a meaning of its own.
#[derive(Debug)]
enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Compare(&'static str, &'static str, Operand),
    In(&'static str, Vec<Operand>),
    IsNull(&'static str),
}

#[derive(Debug)]
enum Operand {
    Constant(&'static str),
    Claim(&'static str),
}

const COLUMNS: [(&str, &[&str]); 3] = [
    ("s", &["'a'", "'b'", "'12'"]),
    ("n", &["1", "2", "12"]),
    ("x", &["0", "1", "1.5"]),
];
const CLAIMS: [&str; 6] = ["sub", "level", "list", "mixed", "bad", "missing"];

fn node(random: &mut Random, depth: usize) -> Node {
    let (column, constants) = *random.of(&COLUMNS);
    let operand = |random: &mut Random| match random.below(2) {
        0 => {
            let constant: &&str = random.of(constants);
            Operand::Constant(constant)
        }
        _ => {
            let claim: &&str = random.of(&CLAIMS);
            Operand::Claim(claim)
        }
    };
    let several = |random: &mut Random| (0..2).map(|_| node(random, depth - 1)).collect();
    match random.below(if depth == 0 { 4 } else { 9 }) {
        0 => Node::IsNull(column),
        1 => Node::In(column, (0..2).map(|_| operand(random)).collect()),
        2 | 3 => {
            let op = *random.of(&["=", "<>", "<", ">="]);
            Node::Compare(column, op, operand(random))
        }
        4 | 5 => Node::All(several(random)),
        6 | 7 => Node::Any(several(random)),
        _ => Node::Not(Box::new(node(random, depth - 1))),
    }
}

impl Node {
    fn sql(&self) -> String {
        let operand = |operand: &Operand| match operand {
            Operand::Constant(text) => (*text).to_owned(),
            Operand::Claim(claim) => format!("jwt('{claim}')"),
        };
        let joined = |nodes: &[Node], word: &str| {
            let parts: Vec<String> = nodes.iter().map(Node::sql).collect();
            format!("({})", parts.join(word))
        };
        match self {
            Self::All(nodes) => joined(nodes, " and "),
            Self::Any(nodes) => joined(nodes, " or "),
            Self::Not(node) => format!("not {}", node.sql()),
            Self::Compare(column, op, right) => format!("({column} {op} {})", operand(right)),
            Self::In(column, items) => {
                let items: Vec<String> = items.iter().map(operand).collect();
                format!("({column} in ({}))", items.join(", "))
            }
            Self::IsNull(column) => format!("({column} is null)"),
        }
    }

    /// Whether the node is true, or its negation when `turned`.
    fn holds(&self, row: &Values, claims: &Claims, turned: bool) -> bool {
        let part = |node: &Node| node.holds(row, claims, turned);
        match self {
            Self::All(nodes) if !turned => nodes.iter().all(part),
            Self::Any(nodes) if turned => nodes.iter().all(part),
            Self::All(nodes) | Self::Any(nodes) => nodes.iter().any(part),
            Self::Not(node) => node.holds(row, claims, !turned),
            Self::IsNull(column) => row.contains_key(*column) == turned,
            Self::Compare(column, op @ ("=" | "<>"), right) => {
                let equal = (*op == "=") != turned;
                among(row.get(*column), [right].into_iter(), claims, equal)
            }
            Self::In(column, items) => among(row.get(*column), items.iter(), claims, !turned),
            Self::Compare(column, op, right) => {
                let (Some(left), Some(values)) =
                    (row.get(*column), values(left_type(column), right, claims))
                else {
                    return false;
                };
                let [Some(right)] = values.as_slice() else {
                    return false;
                };
                let less = number(left) < number(right) || (text_of(left) < text_of(right));
                (less == (*op == "<")) != turned
            }
        }
    }
}

fn left_type(column: &str) -> &'static str {
    match column {
        "s" => "text",
        "n" => "long",
        _ => "number",
    }
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Long(1) => 1.0,
        Value::Long(2) => 2.0,
        Value::Long(12) => 12.0,
        Value::Number(number) => *number,
        _ => 0.0,
    }
}

fn text_of(value: &Value) -> &str {
    match value {
        Value::String(text) => text,
        _ => "",
    }
}

/// What an operand stands for in a column of a type: none when there is nothing, `None` for a value that is none.
fn values(kind: &str, operand: &Operand, claims: &Claims) -> Option<Vec<Option<Value>>> {
    let texts: Vec<String> = match operand {
        Operand::Constant(text) => vec![text.trim_matches('\'').to_owned()],
        Operand::Claim(claim) => {
            let text = |value: &ClaimValue| match value {
                ClaimValue::Text(text) => text.clone(),
                ClaimValue::Number(number) => number.to_string(),
                ClaimValue::Boolean(value) => value.to_string(),
            };
            claims.get(claim)?.iter().map(text).collect()
        }
    };
    let value = |text: &String| match kind {
        "text" => Some(Value::String(text.clone())),
        "long" => text.parse().ok().map(Value::Long),
        _ => text.parse().ok().map(Value::Number),
    };
    Some(texts.iter().map(value).collect())
}

fn among<'a>(
    left: Option<&Value>,
    items: impl Iterator<Item = &'a Operand>,
    claims: &Claims,
    wanted: bool,
) -> bool {
    let Some(left) = left else {
        return false;
    };
    let kind = match left {
        Value::String(_) => "text",
        Value::Long(_) => "long",
        _ => "number",
    };
    let mut found = false;
    for item in items {
        let Some(values) = values(kind, item, claims) else {
            return false;
        };
        let legal = values.iter().flatten().count();
        if legal == 0 || (!wanted && legal < values.len()) {
            return false;
        }
        found |= values.iter().flatten().any(|value| value == left);
    }
    found == wanted
}

#[test]
fn random_conditions_hold_where_the_slow_evaluator_says() {
    let random = &mut Random(0x1a4e_5f7c_90d1_2b33);
    let held = claims(&[
        ("sub", &[text("a")]),
        ("level", &[ClaimValue::Number(2.0)]),
        ("list", &[text("12"), text("1")]),
        ("mixed", &[text("b"), text("1")]),
        ("bad", &[text("12abc")]),
    ]);
    let (mut checked, mut held_for) = (0, 0);
    for _ in 0..600 {
        let rows: Vec<Values> = (0..12)
            .map(|_| {
                let all = [
                    ("s", ["a", "b", "12"].map(Value::from)),
                    ("n", [1_i64, 2, 12].map(Value::from)),
                    ("x", [-0.0, 1.0, 1.5].map(Value::from)),
                ];
                let present = all.into_iter().filter(|_| random.below(4) > 0);
                let present: Vec<(&str, [Value; 3])> = present.collect();
                let chosen = present
                    .iter()
                    .map(|(name, values)| (*name, random.of(values).clone()));
                row(&chosen.collect::<Vec<_>>())
            })
            .collect();
        let node = node(random, 3);
        let condition = node.sql();
        let expected: Vec<bool> = rows
            .iter()
            .map(|row| node.holds(row, &held, false))
            .collect();
        let predicate = sql(&condition);
        let found = matching(&predicate, &rows, &held);
        assert_eq!(found, expected, "{condition}\n{rows:?}");
        checked += expected.len();
        held_for += expected.iter().filter(|holds| **holds).count();
    }
    assert!(held_for * 10 > checked, "{held_for} of {checked} hold");
    assert!(held_for * 10 < checked * 9, "{held_for} of {checked} hold");
}
