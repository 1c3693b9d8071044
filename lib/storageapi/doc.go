// Package storageapi holds the contracts between the layers that store and
// find samples: Ingester, Searcher, Catalog, Admin and Maintenance. Local storage, RPC clients, the router and
// gather implement them, and package apitest is the one conformance suite which all of them pass.
//
// A layer is crossed per batch or per series, never per sample. Failures travel as
// error kinds (package errkind), never as text.
package storageapi
