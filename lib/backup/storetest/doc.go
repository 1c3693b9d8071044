// Package storetest is for tests of stores: what every backup.Store must do, and services in the process that keep objects, with faults.
//
// The services are made of the published descriptions of their protocols. make backup-emulators runs the same tests against programs of others.
package storetest
