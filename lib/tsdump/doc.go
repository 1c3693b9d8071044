// Package tsdump is the binary form in which series leave one installation and enter another: what
// /api/v1/export/native answers and /api/v1/import/native takes. Samples travel in the blocks they are stored in, so
// most are neither decoded nor encoded on the way out, and come in exactly as they were, NaN payloads included.
//
// It knows no HTTP, no tenants and no time ranges. The byte page is docs/format/tsdump.md.
//
// Invariants:
//
//  1. A dump which was cut off, changed, or has lost a record is noticed: records have chained checksums and the last
//     one counts them.
//  2. A reader's memory is bounded by the largest record allowed, whatever it reads.
//  3. Dumps one after the other are a dump.
package tsdump
