//! The SQL dialect: DataFusion's default, with time-travel clauses and a bound on the parser's work.
//!
//! Invariant: `LakeDialect` answers like sqlparser's `GenericDialect` everywhere but in `supports_table_versioning`.
//! sqlparser asks some questions by type id and others by method, so both are forwarded. The methods that are not
//! here are trait defaults in `GenericDialect` too; the tests hold that for the sqlparser we build with.
//!
//! Not the Databricks or Snowflake dialect, which know the clauses as well: they change quoting and identifiers.
//!
//! The bound: after a mistake inside `CAST(`, `POSITION(`, `ARRAY[` and their like, sqlparser reads the inside again as
//! the arguments of a plain function, at every level: 200 bytes would keep it busy for years. The dialect is asked at
//! the beginning of every expression, so it counts them, and ends the parsing when there have been too many.

use std::any::TypeId;
use std::cell::Cell;

use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};

/// How often a token may be read as the beginning of an expression, on average. Right statements need one or two;
/// a mistake in a few levels of brackets needs more until its place is found.
const READS_PER_TOKEN: usize = 8;

/// Reads that a short text has as well.
const READS_MIN: usize = 10_000;

/// The dialect that [`parse`](super::parse) reads one text with.
#[derive(Debug)]
pub(super) struct LakeDialect {
    reads_left: Cell<usize>,
}

impl LakeDialect {
    /// For a text of so many tokens.
    pub(super) fn for_tokens(count: usize) -> LakeDialect {
        LakeDialect {
            reads_left: Cell::new(READS_MIN + count.saturating_mul(READS_PER_TOKEN)),
        }
    }

    /// Whether the parser was stopped by the bound on its work.
    pub(super) fn is_exhausted(&self) -> bool {
        self.reads_left.get() == 0
    }
}

macro_rules! like_generic {
    ($($switch:ident)*) => {
        $(fn $switch(&self) -> bool { GenericDialect.$switch() })*
    };
}

impl Dialect for LakeDialect {
    fn dialect(&self) -> TypeId {
        TypeId::of::<GenericDialect>()
    }

    fn supports_table_versioning(&self) -> bool {
        true
    }

    fn parse_prefix(&self, _parser: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
        match self.reads_left.get().saturating_sub(1) {
            // The one error that the parser's "try this, else that" passes on at once.
            0 => {
                self.reads_left.set(0);
                Some(Err(ParserError::RecursionLimitExceeded))
            }
            left => {
                self.reads_left.set(left);
                None
            }
        }
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        GenericDialect.is_delimited_identifier_start(ch)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        GenericDialect.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        GenericDialect.is_identifier_part(ch)
    }

    like_generic! {
        supports_string_literal_backslash_escape
        ignores_wildcard_escapes
        supports_unicode_string_literal
        supports_filter_during_aggregation
        supports_window_clause_named_window_reference
        supports_within_after_array_aggregation
        supports_group_by_expr
        supports_group_by_with_modifier
        supports_left_associative_joins_without_parens
        supports_outer_join_operator
        supports_cross_join_constraint
        supports_connect_by
        supports_execute_immediate
        supports_match_recognize
        supports_in_empty_list
        supports_start_transaction_modifier
        supports_end_transaction_modifier
        supports_named_fn_args_with_eq_operator
        supports_named_fn_args_with_colon_operator
        supports_named_fn_args_with_assignment_operator
        supports_named_fn_args_with_rarrow_operator
        supports_named_fn_args_with_expr_name
        supports_numeric_prefix
        supports_numeric_literal_underscores
        supports_window_function_null_treatment_arg
        supports_dictionary_syntax
        support_map_literal_syntax
        supports_lambda_functions
        supports_parenthesized_set_variables
        supports_comma_separated_set_assignments
        supports_select_wildcard_except
        convert_type_before_value
        supports_triple_quoted_string
        supports_trailing_commas
        supports_limit_comma
        supports_string_literal_concatenation
        supports_string_literal_concatenation_with_newline
        supports_projection_trailing_commas
        supports_from_trailing_commas
        supports_column_definition_trailing_commas
        supports_object_name_double_dot_notation
        supports_struct_literal
        supports_empty_projections
        supports_select_expr_star
        supports_from_first_select
        supports_pipe_operator
        supports_user_host_grantee
        supports_match_against
        supports_select_wildcard_exclude
        supports_select_exclude
        supports_create_table_multi_schema_info_sources
        supports_select_modifiers
        describe_requires_table_keyword
        allow_extract_custom
        allow_extract_single_quotes
        supports_extract_comma_syntax
        supports_subquery_as_function_arg
        supports_create_view_comment_syntax
        supports_array_typedef_without_element_type
        supports_parens_around_table_factor
        supports_values_as_table_factor
        supports_dollar_placeholder
        supports_create_index_with_clause
        require_interval_qualifier
        supports_explain_with_utility_options
        supports_asc_desc_in_column_definition
        supports_factorial_operator
        supports_bitwise_shift_operators
        supports_nested_comments
        supports_multiline_comment_hints
        supports_eq_alias_assignment
        supports_try_convert
        supports_bang_not_operator
        supports_listen_notify
        supports_load_data
        supports_load_extension
        supports_top_before_distinct
        supports_boolean_literals
        supports_show_like_before_in
        supports_comment_on
        supports_create_table_select
        supports_partiql
        supports_constraint_keyword_without_name
        supports_table_sample_before_alias
        supports_insert_set
        supports_insert_table_function
        supports_insert_format
        supports_set_stmt_without_operator
        supports_string_escape_constant
        supports_table_hints
        requires_single_line_comment_whitespace
        supports_array_typedef_with_brackets
        supports_geometric_types
        supports_order_by_all
        supports_set_names
        supports_space_separated_column_options
        supports_alter_column_type_using
        supports_comma_separated_drop_column_list
        supports_notnull_operator
        supports_data_type_signed_suffix
        supports_interval_options
        supports_create_table_like_parenthesized
        supports_semantic_view_table_factor
        supports_quote_delimited_string
        supports_comment_optimizer_hint
        supports_double_ampersand_operator
        supports_binary_kw_as_cast
        supports_select_wildcard_replace
        supports_select_wildcard_ilike
        supports_select_wildcard_rename
        supports_optimize_table
        supports_install
        supports_detach
        supports_prewhere
        supports_with_fill
        supports_limit_by
        supports_interpolate
        supports_settings
        supports_select_format
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::Precedence;
    use datafusion::sql::sqlparser::keywords::ALL_KEYWORDS_INDEX;

    use super::*;

    /// At least one statement for every switch that `GenericDialect` turns on, and a sample of what it refuses.
    const STATEMENTS: &[&str] = &[
        "SELECT `a b`, \"c\" FROM \"t\"",
        "SELECT #a, @b, a$b, a#b, a@b FROM t$snapshots",
        "SELECT U&'\\00e9'",
        "SELECT E'a\\nb', $$dollar$$, $tag$dollar$tag$",
        "SELECT a, count(*) FROM t GROUP BY ROLLUP (a), CUBE (b), GROUPING SETS ((a), ())",
        "SELECT a FROM t GROUP BY a WITH ROLLUP",
        "SELECT * FROM a JOIN b JOIN c ON b.x = c.x ON a.x = b.x",
        "SELECT a FROM t START WITH a = 1 CONNECT BY PRIOR a = b",
        "SELECT * FROM t MATCH_RECOGNIZE (PATTERN (A B+) DEFINE A AS x > 1)",
        "FROM t |> WHERE a > 1 |> SELECT a",
        "BEGIN IMMEDIATE TRANSACTION",
        "SELECT first_value(a IGNORE NULLS) OVER (ORDER BY b) FROM t",
        "SELECT {'a': 1, 'b': 2}",
        "SELECT sum(a) OVER (w) FROM t WINDOW w AS (PARTITION BY b), v AS w",
        "SET (a, b) = (1, 2)",
        "SELECT * EXCEPT (a) FROM t",
        "SELECT MAP {'a': 1}",
        "SELECT EXTRACT(somepart FROM a), EXTRACT('year' FROM a), EXTRACT(year, a) FROM t",
        "CREATE VIEW v (a COMMENT 'x') COMMENT = 'y' AS SELECT 1",
        "SELECT * FROM (t), (u AS x)",
        "SELECT * FROM VALUES (1, 'a'), (2, 'b') AS t (a, b)",
        "CREATE INDEX i ON t (a) WITH (fillfactor = 70)",
        "EXPLAIN (ANALYZE, FORMAT TEXT) SELECT 1",
        "SELECT a FROM t LIMIT 5, 10",
        "FROM t SELECT a",
        "FROM t",
        "SELECT a, b, FROM t",
        "CREATE TABLE t (a INT ASC, b INT DESC)",
        "SELECT TRY_CONVERT('1', INT)",
        "SELECT 1 << 2 >> 1",
        "COMMENT ON TABLE t IS 'x'",
        "LOAD 'extension'",
        "SELECT f(a := 1, b => 2)",
        "SELECT STRUCT(1 AS a, 2), STRUCT<INT64>(1)",
        "SELECT FROM t",
        "SELECT /* a /* nested */ b */ 1",
        "SELECT /*! 1 */ 2, /*!50000 3 */",
        "GRANT SELECT ON t TO 'u'@'host'",
        "SELECT a::INT[], a::INT[2] FROM t",
        "SELECT MATCH (a, b) AGAINST ('x' IN BOOLEAN MODE) FROM t",
        "SET NAMES 'utf8'",
        "SET a = 1, b = 2",
        "SELECT sum(a) FILTER (WHERE b > 1) FROM t",
        "SELECT * EXCLUDE (a, b) FROM t",
        "CREATE TABLE t (a BIGINT UNSIGNED, b INT SIGNED)",
        "CREATE TABLE t (a INTERVAL YEAR TO MONTH, b INTERVAL DAY)",
        "SELECT Q'[it's]'",
        "SELECT array_transform(a, x -> x + 1), f((x, y) -> x + y) FROM t",
        "SELECT * REPLACE (a + 1 AS a) FROM t",
        "SELECT * ILIKE '%a%' FROM t",
        "SELECT * RENAME (a AS b) FROM t",
        "OPTIMIZE TABLE t FINAL",
        "INSTALL x",
        "DETACH DATABASE IF EXISTS x",
        "SELECT a FROM t PREWHERE b > 1 WHERE c > 1",
        "SELECT a FROM t ORDER BY a WITH FILL FROM 1 TO 10 STEP 2 INTERPOLATE (b AS b + 1)",
        "SELECT a FROM t LIMIT 2 BY a",
        "SELECT a FROM t SETTINGS max_threads = 1",
        "SELECT a FROM t FORMAT JSON",
        "SELECT /*+ hint */ a FROM t",
        "CREATE TABLE t (a INT, CONSTRAINT CHECK (a > 0))",
        "SELECT at, before, version, timestamp FROM at, before b, version, timestamp AS t",
        "SELECT a AT TIME ZONE 'UTC' FROM t FOR UPDATE",
        "CALL system.compact('t', dry_run => true)",
        "MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN UPDATE SET b = s.b",
        "INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2 RETURNING *",
        "WITH RECURSIVE c AS (SELECT 1 UNION ALL SELECT * FROM c) SELECT * FROM c",
        "VACUUM FULL t",
        "PREPARE p (INT) AS SELECT $1; EXECUTE p (1)",
        "SELECT a -> 'b' ->> 'c', a @> b, a #> b, a ?| b FROM t",
        "SELECT * FROM unnest([1, 2]) WITH OFFSET",
        "SELECT a!",
        "SELECT 5 !",
        "SELECT 1_000",
        "SELECT 1a",
        "SELECT 'a' 'b'",
        "SELECT a IN () FROM t",
        "SELECT a NOTNULL FROM t",
        "SELECT a = ANY(b) && c FROM t",
        "DESCRIBE t",
        "SELECT TOP 5 a FROM t",
        "SELECT a[1].b FROM t",
        "SELECT f(SELECT 1)",
        "SELECT * FROM t (NOLOCK)",
        "KILL 1",
        "SELECT [1, 2, 3]",
        "SELECT * FROM",
        "SELECT a b c",
        ";;",
        "",
    ];

    fn lake() -> LakeDialect {
        LakeDialect::for_tokens(100)
    }

    fn outcome(dialect: &dyn Dialect, sql: &str) -> String {
        format!("{:?}", Parser::parse_sql(dialect, sql))
    }

    #[test]
    fn statements_parse_as_in_the_generic_dialect() {
        for sql in STATEMENTS {
            assert_eq!(
                outcome(&lake(), sql),
                outcome(&GenericDialect, sql),
                "{sql}"
            );
        }
    }

    #[test]
    fn characters_keywords_and_precedences_are_those_of_the_generic_dialect() {
        for ch in (0..=0x2fff).filter_map(char::from_u32) {
            let answers = |d: &dyn Dialect| {
                (
                    d.is_identifier_start(ch),
                    d.is_identifier_part(ch),
                    d.is_delimited_identifier_start(ch),
                    d.is_nested_delimited_identifier_start(ch),
                    d.is_custom_operator_part(ch),
                )
            };
            assert_eq!(answers(&lake()), answers(&GenericDialect), "{ch:?}");
        }
        for keyword in ALL_KEYWORDS_INDEX {
            let reserved = |d: &dyn Dialect| d.is_reserved_for_identifier(*keyword);
            let select = |d: &dyn Dialect| {
                let words = d.get_reserved_keywords_for_select_item_operator();
                words.contains(keyword)
            };
            assert_eq!(reserved(&lake()), reserved(&GenericDialect), "{keyword:?}");
            assert_eq!(select(&lake()), select(&GenericDialect), "{keyword:?}");
        }
        for precedence in [
            Precedence::Period,
            Precedence::AtTz,
            Precedence::Pipe,
            Precedence::Colon,
            Precedence::PgOther,
            Precedence::Or,
        ] {
            assert_eq!(
                lake().prec_value(precedence),
                GenericDialect.prec_value(precedence)
            );
        }
        assert_eq!(lake().prec_unknown(), GenericDialect.prec_unknown());
        assert_eq!(
            lake().identifier_quote_style("a"),
            GenericDialect.identifier_quote_style("a")
        );
    }

    #[test]
    fn only_ours_reads_a_version_clause() {
        let sql = "SELECT * FROM t VERSION AS OF 3";
        assert!(Parser::parse_sql(&lake(), sql).is_ok());
        assert!(Parser::parse_sql(&GenericDialect, sql).is_err());
    }
}
