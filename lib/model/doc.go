// Package model holds the nouns every layer shares: tenants, labels, canonical
// series keys, row batches, time ranges, tag filters and search queries.
//
// It knows no storage, no wire format and no HTTP.
//
// The canonical series key is the identity of a series everywhere: the routing
// hash, the index, the order of blocks in parts and the order of search
// results all use its bytes.
//
//	key = accountID (4 bytes, big endian)
//	      projectID (4 bytes, big endian)
//	      metric name (uvarint length, bytes)
//	      { label name (uvarint length, bytes), label value (uvarint length, bytes) }...
//
// Invariants:
//
//  1. Labels in a key are strictly ascending by name (bytes); none is named
//     __name__ or has an empty name or value.
//  2. Two label sets that differ only in order or in empty values have the same key.
//  3. Keys of one tenant share their first 8 bytes, keys of one metric of one
//     tenant share a longer prefix: sorted keys keep tenants and metrics together.
package model
