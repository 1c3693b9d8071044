package gather

import (
	"context"
	"errors"
	"strings"

	"vmcluster/lib/errkind"
	"vmcluster/lib/storageapi"
)

type denyPartialKey struct{}

// WithDenyPartial returns a context for queries whose answer must be whole or an
// error of kind Unavailable, whatever Options.DenyPartial says.
func WithDenyPartial(ctx context.Context) context.Context {
	return context.WithValue(ctx, denyPartialKey{}, true)
}

func deniesPartial(ctx context.Context) bool { return ctx.Value(denyPartialKey{}) != nil }

// isQueryFault reports whether an error of a node says that the query itself is
// at fault, so that every node would say the same.
func isQueryFault(err error) bool {
	switch errkind.Of(err) {
	case errkind.BadRequest, errkind.Unprocessable, errkind.TooLarge, errkind.Unauthorized, errkind.NotFound, errkind.MethodNotAllowed, errkind.Unsupported:
		return true
	}
	return false
}

// answer is what one node came to: nothing wrong, or a failure.
type answer struct {
	node     string
	err      error
	coverage storageapi.Coverage // what the node itself says of its answer
}

// lacks reports whether data of the node may be missing.
func (a *answer) lacks() bool { return a.err != nil || a.coverage.Partial }

// policy decides what failures of nodes mean for the whole answer.
type policy struct {
	deny   bool
	copies *copies
}

// judge returns the coverage of an answer, or the error to give instead of it. Given
// are the answers of all nodes, in order; ctxErr is the state of the caller's context.
func (p policy) judge(answers []answer, ctxErr error) (storageapi.Coverage, error) {
	var cov storageapi.Coverage
	failed := 0
	for _, a := range answers {
		if a.err == nil {
			for _, f := range a.coverage.Failed { // of its own nodes
				cov.Failed = append(cov.Failed, storageapi.NodeFailure{Node: f.Node + " of " + a.node, Err: f.Err})
			}
			continue
		}
		if ctxErr != nil {
			return cov, errkind.New(errkind.Of(ctxErr), "cannot finish query: %w", ctxErr)
		}
		if isQueryFault(a.err) {
			return cov, errkind.New(errkind.Of(a.err), "storage node %q refuses the query: %w", a.node, a.err)
		}
		failed++
		cov.Failed = append(cov.Failed, storageapi.NodeFailure{Node: a.node, Err: a.err})
	}
	cov.Partial = p.copies.hides(func(node int) bool { return answers[node].lacks() })
	switch {
	case failed == len(answers):
		return cov, errkind.New(errkind.Unavailable, "cannot answer query: none of the %d storage nodes answers%s", failed, describe(cov.Failed))
	case cov.Partial && p.deny:
		return cov, errkind.New(errkind.Unavailable, "cannot answer query in full: partial answers are denied and storage nodes are missing%s; "+
			"try again when they are back, or allow partial answers", describe(cov.Failed))
	}
	return cov, nil
}

// withoutSkipped returns the failures of nodes that were waited for.
func withoutSkipped(failures []storageapi.NodeFailure) []storageapi.NodeFailure {
	var out []storageapi.NodeFailure
	for _, f := range failures {
		if !errors.Is(f.Err, errSkipped) {
			out = append(out, f)
		}
	}
	return out
}

func describe(failures []storageapi.NodeFailure) string {
	var b strings.Builder
	for i, f := range failures {
		if i == 0 {
			b.WriteString(": ")
		} else {
			b.WriteString("; ")
		}
		b.WriteString(f.Node + ": " + f.Err.Error())
	}
	return b.String()
}
