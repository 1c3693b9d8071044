// Package certtest makes certificates for tests. It knows no test and no protocol.
package certtest
