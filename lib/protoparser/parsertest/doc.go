// Package parsertest is what the tests of the parsers share.
package parsertest
