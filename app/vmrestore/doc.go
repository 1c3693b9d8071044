// Command vmrestore makes a data directory of a backup.
package main
