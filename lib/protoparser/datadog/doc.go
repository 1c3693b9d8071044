// Package datadog reads what Datadog agents send and turns it into row batches: series in the JSON of /api/v1/series, series in the JSON or
// protobuf of /api/v2/series, and sketches in the protobuf of /api/beta/sketches.
//
// A tag name:value is a label, and one without a colon has the value no_label_value. A tag host becomes exported_host, since the host of the sender is the
// label host. Of tags with the same name the last one counts. Values are stored as they come, rates and counts too. A sketch becomes five quantiles, and
// four series with its minimum, maximum, sum and count.
//
// Invariants:
//
//  1. Nothing of a body which is not JSON is stored. A series which is not as it should be is counted and left out, and all others are stored.
//  2. Memory is bounded by the size limit of bodies: series are read where they are, and one may have 10,000 tags, and as many sketches.
//  3. The same labels are the same series, whichever way they came: all ways bring them into one form (series.raw), by which series are known.
package datadog
