// Package azurestore keeps backups in a container of Azure Blob Storage.
//
// Requests are signed, sent and sent again by the client library of Azure.
//
// Invariants:
//
//  1. A blob appears as a whole: it is sent in one request, or in blocks of which the service makes a blob in the end. Blocks of which none is made
//     are forgotten by the service after a week.
//  2. The service is told the MD5 of every request's bytes and refuses others.
//  3. A blob which the service is still copying, or has failed to copy, is none.
//  4. Neither errors nor String show keys or signatures.
package azurestore
