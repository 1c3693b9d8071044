// Package s3store keeps backups in a bucket of Amazon S3, or of a service which speaks its protocol.
//
// Requests are signed, sent and sent again by the client library of AWS; credentials come from where that finds them.
//
// Invariants:
//
//  1. An object appears as a whole: it is sent in one request, or in parts of which the service makes an object in the end. Parts of which none
//     is made are withdrawn; if that fails too they are named to the user by nothing but a rule of the bucket (docs/backups.md).
//  2. The service is told the CRC32C of every request's bytes, or the checksum the user wants, and refuses others.
//  3. Neither errors nor String show credentials.
package s3store
