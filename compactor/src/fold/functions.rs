//! The functions of a fold's SQL that know where rows are: `place_of(row_id)` and `is_late(row_id)`.
//!
//! **Invariant:** they answer by the places that the fold has at that moment, those of one part of the rows, and know no
//! row of another.

use std::any::Any;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::{ArrayRef, AsArray as _};
use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::prelude::SessionContext;
use lakesync_providers::Places;

/// The places of the part that is folded.
#[derive(Clone, Debug)]
pub(crate) struct CurrentPlaces(Arc<Mutex<Arc<Places>>>);

impl CurrentPlaces {
    /// Those of no rows.
    pub(crate) fn none() -> Self {
        Self(Arc::new(Mutex::new(Arc::new(Places::none()))))
    }

    /// These from now on.
    pub(crate) fn set(&self, places: Places) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(places);
    }

    fn get(&self) -> Arc<Places> {
        // An assignment cannot be seen half done.
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes both functions callable.
    pub(crate) fn register(&self, ctx: &SessionContext) {
        for asks in [Asks::Place, Asks::Late] {
            ctx.register_udf(ScalarUDF::from(Function {
                places: self.clone(),
                asks,
                signature: Signature::any(1, Volatility::Stable),
            }));
        }
    }
}

/// What a function asks of a row id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Asks {
    /// Its key, which says its place; null when it is no row of the part.
    Place,
    /// Whether it has a late candidate.
    Late,
}

#[derive(Debug)]
struct Function {
    places: CurrentPlaces,
    asks: Asks,
    signature: Signature,
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.asks == other.asks && Arc::ptr_eq(&self.places.0, &other.places.0)
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.asks.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &'static str {
        match self.asks {
            Asks::Place => "place_of",
            Asks::Late => "is_late",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(match self.asks {
            Asks::Place => DataType::Int64,
            Asks::Late => DataType::Boolean,
        })
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let ids = arguments.args[0].cast_to(&DataType::Utf8, None)?;
        let ids = ids.to_array(arguments.number_rows)?;
        let ids = ids.as_string::<i32>();
        let places = self.places.get();
        let answers: ArrayRef = match self.asks {
            Asks::Place => Arc::new(places.keys(ids)),
            Asks::Late => Arc::new(places.late(ids)),
        };
        Ok(ColumnarValue::Array(answers))
    }
}
