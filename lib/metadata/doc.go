// Package metadata keeps what senders say of metrics, in memory: type, unit and help. It implements the metadata contracts of
// package storageapi.
//
// It knows no samples and no disk: what is lost with the process comes again with the next scrapes.
//
// Invariants:
//
//  1. The bytes held stay within the limit; the metrics least recently described leave first.
//  2. A metric has at most maxPerMetric descriptions, the one seen last first, each once.
package metadata
