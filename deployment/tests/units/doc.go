// Package units runs, as plain processes on loopback, the containers that manifests and compose files describe: what a
// container engine would be told to run is what is run. It is for tests.
//
// Invariants:
//
//  1. Nothing of a command line changes but names of hosts with a port, which become addresses on 127.0.0.1, and paths
//     below the places of volumes, which become directories of the test. Listen addresses which a command line
//     of our binaries does not tell are set by environment variables, which it has to allow (-envflag.enable), those of
//     others by one more flag.
//  2. A name that nothing stands for stays as it is, and so fails the way it would in a real cluster.
//  3. Every process ends with the test.
package units
