// Package apitest is the conformance suite of the contracts in package
// storageapi, and Memory, a naive store in memory which passes it.
//
// Whoever implements Ingester and Searcher runs the suite against an empty store:
//
//	apitest.Run(t, func(t *testing.T) apitest.Target {
//		s := open(t)
//		return apitest.Target{Ingester: s, Searcher: s, Admin: s}
//	})
//
// All timestamps lie in [Base-45 days, Base+2 days], so a store under test needs a
// retention which covers them.
//
// The suite leaves implementations the freedom which the contracts leave:
// blocks may overlap and may hold samples outside the range; keys and labels may be
// answered by the day; a series whose blocks touch the range without a sample
// in it may be among the results, since storage decides by block headers and
// the reader drops it; a limit may show at the call or at the iterator.
package apitest
