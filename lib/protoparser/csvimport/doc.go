// Package csvimport reads the rows of /api/v1/import/csv as its format argument describes them, and turns them into
// row batches.
//
//	format=1:label:ticker,2:metric:bid,3:metric:ask,5:time:unix_s
//
// Entries are <column>:<type>:<what>; columns count from 1, and those which are not named are left alone. Each metric
// column makes a sample of each row. A label column whose what is __name__ replaces the names of the metrics, which is how
// rows of /api/v1/export/csv come back in.
//
// Invariants:
//
//  1. A row which cannot be parsed is counted and left out whole, and all others are stored. The first row is a header if its
//     values or its time are no such, and is not counted.
//  2. Memory is bounded by a multiple of the longest row allowed.
package csvimport
