// Package rest has the two names of k8s.io/client-go/rest which the logging of Prometheus needs to compile; see README.md above.
package rest

import "context"

// WarningHandlerWithContext takes the warnings of an API server.
type WarningHandlerWithContext interface {
	HandleWarningHeaderWithContext(ctx context.Context, code int, agent string, text string)
}

// WarningLogger drops them: nothing here talks to such a server.
type WarningLogger struct{}

// HandleWarningHeaderWithContext drops a warning.
func (WarningLogger) HandleWarningHeaderWithContext(context.Context, int, string, string) {}
