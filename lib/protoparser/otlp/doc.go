// Package otlp turns the metrics of OTLP requests over HTTP, protobuf or JSON, into row batches.
//
// Numbers become samples; histograms the series _count, _sum and _bucket with le; exponential histograms _bucket with vmrange; summaries
// _count, _sum and quantiles. Attributes of resource, scope and point are labels, of which the nearest to the point wins. Points of delta
// temporality are stored as they are. See docs/protocols/opentelemetry.md.
//
// Invariants:
//
//  1. A body which cannot be decoded is an error of kind BadRequest. Only what was in full batches before the fault may have been
//     stored.
//  2. A point which makes no sense (buckets that do not fit their bounds) is counted and left out; all others are stored.
//  3. The same request as protobuf and as JSON stores the same.
//  4. Values nest as deep as maxDepth; deeper ones are errors.
//  5. Of a series in protobuf that is known nothing is read but the sample: it is recognised by hashes of the bytes which say what it is, so that
//     the same attributes in another order are looked up apart, and stored as the same series.
package otlp
