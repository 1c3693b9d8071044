// Package certfiles makes TLS configurations of certificate, key and CA files, for servers and for clients, and reads the files again
// when they change, so that certificates are renewed without a restart.
//
// It knows no protocol and opens no connection. The files are looked at when a handshake begins and when metrics are read; no
// goroutine watches them.
//
// Invariants:
//
//  1. Files which cannot be used keep a process from starting. In one which runs, those read before stay in use; this is logged and counted.
//  2. Certificate, key and CA are replaced together: no handshake sees a part of the new ones.
//  3. The files are read at most once a second, whatever the number of handshakes.
//  4. A handshake is checked against the CA in use when it begins. Nothing is resumed where certificates of clients are demanded.
package certfiles
