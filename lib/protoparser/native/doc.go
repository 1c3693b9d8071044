// Package native reads the dumps of /api/v1/export/native, whose format is package tsdump's, and turns them into row
// batches.
//
// Invariants:
//
//  1. Samples come out bit by bit as they went in.
//  2. What was read before a damaged record is stored, and the error says that the rest is not.
//  3. Memory is bounded by the largest record and the batch bounds.
package native
