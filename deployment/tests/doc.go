// Package tests holds the tests of what is under deployment. It is a module of its own, because the libraries of
// Kubernetes and Helm are large and nothing else needs them.
package tests
