//! SQL functions whose result may be far larger than their arguments, made to refuse instead of taking the process's
//! memory: an allocation that fails ends the process, and no other error handling sees it.
//!
//! | function | result |
//! |---|---|
//! | `repeat`, `lpad`, `rpad`, `array_repeat`, `array_resize`, `range`, `generate_series` | as long as an argument says |
//! | `replace`, `regexp_replace`, `array_to_string`, `concat_ws` | a product of arguments |
//! | `concat`, `make_array`, `array_concat`, `array_append`, `array_prepend`, `overlay` | a sum, which nesting doubles |
//!
//! **Invariant:** one call, over one batch of rows, makes at most [`RESULT_BYTES_MAX`]; a constant text at most
//! [`CONSTANT_BYTES_MAX`], because a plan may write it out for every row of a batch.

use std::any::Any;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, plan_err};
use datafusion::execution::FunctionRegistry as _;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use datafusion::prelude::SessionContext;

use crate::growth::{self, Call, Growth};

/// How many bytes one call may make for one batch (64 MiB): some thousand times what a column of texts holds.
const RESULT_BYTES_MAX: u128 = 64 << 20;
/// How many bytes a text that is made of constants may have (64 KiB): written out for the 8,192 rows of a batch it is
/// half a gibibyte.
const CONSTANT_BYTES_MAX: u128 = 64 << 10;

/// Whether a call of constants becomes a constant of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Folding {
    /// It does, and is bound as such.
    Constant,
    /// It does not: a list is often made of constants, for one row, and longer than what may be written out for many.
    PerBatch,
}

/// The functions that are bound, and how large they may become.
const BOUNDED: &[(&str, Growth, Folding)] = &[
    ("repeat", growth::repeat, Folding::Constant),
    ("lpad", growth::pad, Folding::Constant),
    ("rpad", growth::pad, Folding::Constant),
    ("replace", growth::replace, Folding::Constant),
    ("regexp_replace", growth::regexp_replace, Folding::Constant),
    (
        "array_to_string",
        growth::array_to_string,
        Folding::Constant,
    ),
    ("concat", growth::together, Folding::Constant),
    ("concat_ws", growth::concat_ws, Folding::Constant),
    ("overlay", growth::together, Folding::Constant),
    ("array_repeat", growth::array_repeat, Folding::PerBatch),
    ("array_resize", growth::array_resize, Folding::PerBatch),
    ("range", growth::range, Folding::PerBatch),
    ("generate_series", growth::range, Folding::PerBatch),
    ("make_array", growth::together, Folding::Constant),
    ("array_concat", growth::together, Folding::Constant),
    ("array_append", growth::together, Folding::Constant),
    ("array_prepend", growth::together, Folding::Constant),
];

/// Puts the bound functions in the place of those of `ctx`.
pub(crate) fn register(ctx: &SessionContext) {
    for (name, growth, folding) in BOUNDED {
        let inner = ctx
            .udf(name)
            .expect("a test calls every one of the functions");
        let mut signature = inner.signature().clone();
        if *folding == Folding::PerBatch {
            signature.volatility = Volatility::Volatile;
        }
        ctx.register_udf(ScalarUDF::new_from_impl(Bounded {
            inner,
            signature,
            growth: *growth,
            folding: *folding,
        }));
    }
}

/// A function and the bound of its result.
#[derive(Debug)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    signature: Signature,
    growth: Growth,
    folding: Folding,
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl Eq for Bounded {}

impl Hash for Bounded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl Bounded {
    fn check(&self, args: &ScalarFunctionArgs) -> Result<()> {
        let constant = |arg: &ColumnarValue| matches!(arg, ColumnarValue::Scalar(_));
        let constants = args.args.iter().all(constant);
        let call = Call {
            args: &args.args,
            rows: if constants { 1 } else { args.number_rows },
        };
        let mut bytes = (self.growth)(&call)?;
        let bytes_max = match (constants, self.folding) {
            (true, Folding::Constant) => CONSTANT_BYTES_MAX,
            (true, Folding::PerBatch) => {
                let rows = u128::try_from(args.number_rows.max(1)).unwrap_or(u128::MAX);
                bytes = bytes.saturating_mul(rows);
                RESULT_BYTES_MAX
            }
            (false, _) => RESULT_BYTES_MAX,
        };
        if bytes > bytes_max {
            return plan_err!(
                "{} would make up to {bytes} bytes for {} rows, and {bytes_max} is the most; ask for shorter values, or \
                 for fewer rows",
                self.inner.name(),
                args.number_rows
            );
        }
        Ok(())
    }
}

impl ScalarUDFImpl for Bounded {
    fn as_any(&self) -> &dyn Any {
        self.inner.inner().as_any()
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.check(&args)?;
        self.inner.invoke_with_args(args)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}
