// Package prompb reads and writes the messages of Prometheus remote write 1.0, and reads those of 2.0, without an allocation
// per series.
//
//	message WriteRequest   { repeated TimeSeries timeseries = 1; repeated MetricMetadata metadata = 3; }
//	message TimeSeries     { repeated Label labels = 1; repeated Sample samples = 2; exemplars = 3; repeated Histogram histograms = 4; }
//	message Label          { string name = 1; string value = 2; }
//	message Sample         { double value = 1; int64 timestamp = 2; }
//
// and for 2.0
//
//	message Request        { repeated string symbols = 4; repeated TimeSeries timeseries = 5; }
//	message TimeSeries     { repeated uint32 labels_refs = 1; repeated Sample samples = 2; repeated Histogram histograms = 3; exemplars = 4; Metadata metadata = 5; }
//	message Sample         { double value = 1; int64 timestamp = 2; int64 start_timestamp = 3; }
//	message Metadata       { MetricType type = 1; uint32 help_ref = 3; uint32 unit_ref = 4; }
//
// The decoder is generic over the label type, so that callers get labels of
// their own type without a copy. Native histograms are found by the walk and decoded when they are asked for. Exemplars are counted and skipped, start timestamps and unknown
// fields are skipped. Compression, limits and tenants are the caller's business.
//
// Ownership: labels and samples of the current series are overwritten by Next;
// label strings alias the body and live as long as it is left alone.
//
// Invariants:
//
//  1. No input makes the decoder panic, and memory stays proportional to the body:
//     every length is checked against the bytes which are there.
//  2. Errors are of kind BadRequest and name the byte offset in the body.
//  3. NextRaw with Labels for each series gives the same series, counts and errors as Next.
package prompb
