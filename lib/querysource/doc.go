// Package querysource stands between the query engine and the contracts of package storageapi: a Source
// gives an engine the series of a Searcher, a Reducer gives askers a query engine over a store of this process.
//
// Both are safe for concurrent use.
package querysource
