// Package influx reads the line protocol of InfluxDB and turns its lines into row batches.
//
//	measurement[,tag=value...] field=value[,field=value...] [timestamp]
//
// Each field makes a sample of the series <measurement><separator><field> with the tags as labels. Numbers may end with i or u, booleans count as
// 1 and 0, texts in quotes as 0. Outside of texts \ makes a comma, an equals sign, a space or a \ behind it part of a name or value. Timestamps are in
// the unit that the sender names, otherwise nanoseconds, microseconds, milliseconds or seconds, told by their size.
//
// Invariants:
//
//  1. A request is stored as a whole or, when one of its lines cannot be parsed, not at all. In stream mode such lines are counted
//     and all others are stored.
//  2. Memory is bounded by the size limit of requests, in stream mode by that of lines.
//  3. Of a line which cannot be parsed no field is stored.
package influx
