//! Query rows as a response body, streamed batch by batch.
//!
//! | `accept` | body |
//! |---|---|
//! | `application/json` (default) | `{"columns": [{"name", "type"}], "rows": [{…}]}` |
//! | `application/x-ndjson` | a JSON object a line |
//! | `application/vnd.apache.arrow.stream` | Arrow IPC |
//!
//! **Invariant:** the first batch is there before the status is sent, so a statement that fails at once is
//! an error answer; a later failure ends the body short of its end, which every format shows.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::StreamWriter;
use arrow::json::writer::LineDelimited;
use axum::body::Bytes;
use axum::http::{HeaderMap, header};
use datafusion::error::DataFusionError;
use datafusion::prelude::DataFrame;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use lakesync_providers::{in_types_of, without_text_views};
use serde_json::json as object;

use super::statements::Rows;
use crate::error::{Error, Result};
use crate::json::{self, distinct_names, renamed};

/// The content type of Arrow IPC streams.
pub(crate) const ARROW_STREAM: &str = "application/vnd.apache.arrow.stream";
const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";

/// How rows are written into the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowFormat {
    Json,
    Ndjson,
    Arrow,
}

impl RowFormat {
    /// What the `accept` header asks for.
    pub(super) fn wanted(headers: &HeaderMap) -> Result<Self> {
        let Some(accept) = headers.get(header::ACCEPT) else {
            return Ok(Self::Json);
        };
        let accept = accept.to_str().unwrap_or_default();
        for wanted in accept.split(',') {
            match wanted.split(';').next().unwrap_or_default().trim() {
                JSON | "*/*" | "application/*" => return Ok(Self::Json),
                NDJSON => return Ok(Self::Ndjson),
                ARROW_STREAM => return Ok(Self::Arrow),
                _ => {}
            }
        }
        Err(Error::Invalid(format!(
            "accept: `{accept}` cannot be written here; ask for {JSON}, {NDJSON} or {ARROW_STREAM}"
        )))
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Json => JSON,
            Self::Ndjson => NDJSON,
            Self::Arrow => ARROW_STREAM,
        }
    }
}

/// The rows of `frame`, once the first batch is there.
pub(super) async fn rows(frame: DataFrame, format: RowFormat) -> Result<Rows> {
    // Readers of Arrow that are some years old know no views.
    let schema = without_text_views(&Arc::new(frame.schema().as_arrow().clone()));
    let mut batches = frame.execute_stream().await?;
    let first = batches.next().await.transpose()?;
    let mut encoder = Encoder::new(format, &schema)?;
    let start = encoder.start(&schema)?;
    let batches = stream::iter(first.map(Ok)).chain(batches);
    let batches = batches.map(move |batch| Ok(in_types_of(&batch?, &schema)?));
    let body = stream::unfold(Some((encoder, batches.boxed())), |state| async move {
        let (mut encoder, mut batches) = state?;
        match batches.try_next().await {
            Ok(Some(batch)) => Some((encoder.batch(&batch), Some((encoder, batches)))),
            Ok(None) => Some((encoder.end(), None)),
            Err(error) => Some((Err(error), None)),
        }
    });
    let body = stream::iter([Ok(start)]).chain(body);
    let body = body.map_err(|error: DataFusionError| std::io::Error::other(error.to_string()));
    Ok(Rows {
        content_type: format.content_type(),
        chunks: body.boxed(),
    })
}

/// Batches to bytes, in one of the formats.
enum Encoder {
    Json { any: bool },
    Ndjson,
    Arrow(StreamWriter<Vec<u8>>),
}

impl Encoder {
    fn new(format: RowFormat, schema: &SchemaRef) -> Result<Self> {
        Ok(match format {
            RowFormat::Json => Self::Json { any: false },
            RowFormat::Ndjson => Self::Ndjson,
            RowFormat::Arrow => {
                let writer =
                    StreamWriter::try_new(Vec::new(), schema).map_err(DataFusionError::from)?;
                Self::Arrow(writer)
            }
        })
    }

    fn start(&mut self, schema: &SchemaRef) -> Result<Bytes> {
        Ok(match self {
            Self::Json { .. } => {
                let schema = distinct_names(schema);
                let columns: Vec<_> = schema
                    .fields()
                    .iter()
                    .map(|field| object!({"name": field.name(), "type": field.data_type().to_string()}))
                    .collect();
                format!("{{\"columns\":{},\"rows\":[", object!(columns)).into()
            }
            Self::Ndjson => Bytes::new(),
            Self::Arrow(writer) => std::mem::take(writer.get_mut()).into(),
        })
    }

    fn batch(&mut self, batch: &RecordBatch) -> Result<Bytes, DataFusionError> {
        Ok(match self {
            Self::Json { any } => {
                let lines = lines(batch)?;
                let mut out = Vec::with_capacity(lines.len() + 1);
                for line in lines
                    .split(|byte| *byte == b'\n')
                    .filter(|line| !line.is_empty())
                {
                    if std::mem::replace(any, true) {
                        out.push(b',');
                    }
                    out.extend_from_slice(line);
                }
                out.into()
            }
            Self::Ndjson => lines(batch)?.into(),
            Self::Arrow(writer) => {
                writer.write(batch)?;
                std::mem::take(writer.get_mut()).into()
            }
        })
    }

    fn end(mut self) -> Result<Bytes, DataFusionError> {
        Ok(match &mut self {
            Self::Json { .. } => Bytes::from_static(b"]}\n"),
            Self::Ndjson => Bytes::new(),
            Self::Arrow(writer) => {
                writer.finish()?;
                std::mem::take(writer.get_mut()).into()
            }
        })
    }
}

fn lines(batch: &RecordBatch) -> Result<Vec<u8>, DataFusionError> {
    let batch = renamed(batch, &distinct_names(batch.schema_ref()))?;
    let mut writer = json::writer().build::<_, LineDelimited>(Vec::new());
    writer.write(&batch)?;
    writer.finish()?;
    Ok(writer.into_inner())
}
