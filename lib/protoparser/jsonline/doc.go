// Package jsonline reads the JSON lines of /api/v1/import, which are those of
// /api/v1/export, and turns them into row batches.
//
//	{"metric":{"__name__":"up","job":"x"},"values":[1,null,"NaN","Infinity"],"timestamps":[1717200000000,...]}
//
// Values are numbers, null, or strings holding a number; null says that there is
// no value, and is left out. Timestamps are Unix milliseconds.
//
// Invariants:
//
//  1. A line which cannot be parsed is counted and left out whole, and all other lines are stored.
//  2. Memory is bounded by a multiple of the longest line allowed.
package jsonline
