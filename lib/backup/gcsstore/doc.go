// Package gcsstore keeps backups in a bucket of Google Cloud Storage.
//
// It speaks the JSON API itself: six requests, of which the client library makes 34 MB of program (docs/design/0036-object-stores.md).
// Credentials come from golang.org/x/oauth2, from where Google's tools find them.
//
// Invariants:
//
//  1. An object appears as a whole: the service makes it when the last byte of an upload has come.
//  2. The service is told the CRC32C of every object and refuses one that has another; what it says it has is compared once more.
//  3. Requests which may have been done are done again: all are such that twice is as good as once.
package gcsstore
