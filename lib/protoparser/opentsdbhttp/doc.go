// Package opentsdbhttp reads the JSON of OpenTSDB's /api/put and turns it into row batches.
//
//	{"metric": "name", "timestamp": 1717200000, "value": 45.3, "tags": {"host": "a"}}
//
// or an array of such objects. Timestamps are seconds or milliseconds, told by their size; numbers may be quoted. A row without a timestamp has
// the second at which it came.
//
// Invariants:
//
//  1. Nothing of a body which is not JSON is stored. A row which is not as above is counted and left out, and all others are stored.
//  2. Memory is bounded by the size limit of bodies: rows are read where they are, and 64 bytes are noted of each.
package opentsdbhttp
