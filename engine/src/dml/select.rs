//! Queries and expressions as syntax trees.
//!
//! **Invariant:** a tree is put together from trees; no text is printed and parsed again.

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, Distinct, Expr, GroupByExpr, Ident, Query, Select, SelectFlavor,
    SelectItem, SetExpr, TableFactor, TableWithJoins, Value, With,
};

/// A query that selects nothing yet.
pub(super) fn query() -> Query {
    let one = SelectItem::UnnamedExpr(number(1));
    body(SetExpr::Select(Box::new(empty(vec![one]))))
}

/// A query of this body.
pub(super) fn body(body: SetExpr) -> Query {
    Query {
        with: None,
        body: Box::new(body),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }
}

fn empty(projection: Vec<SelectItem>) -> Select {
    Select {
        select_token: AttachedToken::empty(),
        optimizer_hint: None,
        distinct: None::<Distinct>,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection,
        exclude: None,
        into: None,
        from: Vec::new(),
        lateral_views: Vec::new(),
        prewhere: None,
        selection: None,
        connect_by: Vec::new(),
        group_by: GroupByExpr::Expressions(Vec::new(), Vec::new()),
        cluster_by: Vec::new(),
        distribute_by: Vec::new(),
        sort_by: Vec::new(),
        having: None,
        named_window: Vec::new(),
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: SelectFlavor::Standard,
    }
}

/// `SELECT … FROM … WHERE …`
pub(super) struct Selected {
    pub(super) with: Option<With>,
    pub(super) projection: Vec<SelectItem>,
    pub(super) from: Vec<TableWithJoins>,
    pub(super) selection: Option<Expr>,
}

impl From<Selected> for Query {
    fn from(selected: Selected) -> Query {
        let select = Select {
            from: selected.from,
            selection: selected.selection,
            ..empty(selected.projection)
        };
        Query {
            with: selected.with,
            ..body(SetExpr::Select(Box::new(select)))
        }
    }
}

/// A name as it is, whatever its letters.
pub(super) fn quoted(name: &str) -> Ident {
    Ident::with_quote('"', name)
}

/// `expr AS "name"`
pub(super) fn named(expr: Expr, name: &str) -> SelectItem {
    SelectItem::ExprWithAlias {
        expr,
        alias: quoted(name),
    }
}

/// `table.name`
pub(super) fn column(table: &[Ident], name: &str) -> Expr {
    let mut names = table.to_vec();
    names.push(quoted(name));
    Expr::CompoundIdentifier(names)
}

pub(super) fn number(number: usize) -> Expr {
    Expr::value(Value::Number(number.to_string(), false))
}

pub(super) fn null() -> Expr {
    Expr::value(Value::Null)
}

pub(super) fn and(left: Expr, right: Expr) -> Expr {
    binary(left, BinaryOperator::And, right)
}

pub(super) fn equal(left: Expr, right: Expr) -> Expr {
    binary(left, BinaryOperator::Eq, right)
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp {
        left: Box::new(left),
        op,
        right: Box::new(right),
    }
}

/// `CASE WHEN … THEN … … END`
pub(super) fn case(conditions: Vec<CaseWhen>) -> Expr {
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions,
        else_result: None,
    }
}

/// A value to store; the word DEFAULT means null, which is every column's default.
pub(super) fn stored(value: Expr) -> Expr {
    match &value {
        Expr::Identifier(name)
            if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("default") =>
        {
            null()
        }
        _ => value,
    }
}

/// One table of a FROM list.
pub(super) fn table(relation: TableFactor) -> TableWithJoins {
    TableWithJoins {
        relation,
        joins: Vec::new(),
    }
}

/// Both lists of WITH queries, the outer first.
pub(super) fn both(outer: Option<With>, inner: Option<With>) -> Option<With> {
    match (outer, inner) {
        (Some(mut outer), Some(inner)) => {
            outer.recursive |= inner.recursive;
            outer.cte_tables.extend(inner.cte_tables);
            Some(outer)
        }
        (outer, inner) => outer.or(inner),
    }
}
