package gather

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"vmcluster/lib/errkind"
	"vmcluster/lib/storageapi"
)

// A script: the answers of the nodes, the policy, and what comes of it.
func TestPolicy(t *testing.T) {
	for _, c := range []struct {
		answers string // one letter per node: see answerOf
		policy  policy
		ctxErr  error
		kind    errkind.Kind
		partial bool
		failed  string
	}{
		{answers: "...", kind: errkind.OK},
		{answers: ".d.", kind: errkind.OK, partial: true, failed: "n1"},
		{answers: "dd.", kind: errkind.OK, partial: true, failed: "n0 n1"},
		{answers: "ddd", kind: errkind.Unavailable},
		{answers: "d", kind: errkind.Unavailable},
		{answers: ".t.", kind: errkind.OK, partial: true, failed: "n1"},
		{answers: ".x.", kind: errkind.OK, partial: true, failed: "n1"},
		{answers: ".b.", kind: errkind.BadRequest},
		{answers: "dl.", kind: errkind.Unprocessable},
		{answers: "...", policy: policy{deny: true}, kind: errkind.OK},
		{answers: ".d.", policy: policy{deny: true}, kind: errkind.Unavailable},
		{answers: ".p.", policy: policy{deny: true}, kind: errkind.Unavailable},
		{answers: ".p.", kind: errkind.OK, partial: true, failed: "below"},
		{answers: ".d.", policy: policy{spare: 1}, kind: errkind.OK, failed: "n1"},
		{answers: ".d.", policy: policy{spare: 1, deny: true}, kind: errkind.OK, failed: "n1"},
		{answers: "dd.", policy: policy{spare: 1}, kind: errkind.OK, partial: true, failed: "n0 n1"},
		{answers: "dd", policy: policy{spare: 2}, kind: errkind.Unavailable},
		{answers: ".d.", ctxErr: context.Canceled, kind: errkind.Canceled},
		{answers: "ddd", ctxErr: context.DeadlineExceeded, kind: errkind.Timeout},
		{answers: "...", ctxErr: context.Canceled, kind: errkind.OK}, // the answer was whole before
	} {
		var answers []answer
		for i, letter := range c.answers {
			answers = append(answers, answerOf(i, letter))
		}
		cov, err := c.policy.judge(answers, c.ctxErr)
		if errkind.Of(err) != c.kind {
			t.Errorf("%+v gives error %v", c, err)
			continue
		}
		if err != nil {
			continue
		}
		var failed []string
		for _, f := range cov.Failed {
			failed = append(failed, f.Node)
		}
		if cov.Partial != c.partial || strings.Join(failed, " ") != c.failed {
			t.Errorf("%+v gives coverage %+v", c, cov)
		}
	}
}

func answerOf(i int, letter rune) answer {
	a := answer{node: fmt.Sprint("n", i)}
	switch letter {
	case 'd':
		a.err = errkind.New(errkind.Unavailable, "down")
	case 't':
		a.err = errkind.New(errkind.Timeout, "slow")
	case 'x':
		a.err = errors.New("broken")
	case 'b':
		a.err = errkind.New(errkind.BadRequest, "bad filter")
	case 'l':
		a.err = errkind.New(errkind.Unprocessable, "too many series")
	case 'p':
		a.coverage = storageapi.Coverage{Partial: true, Failed: []storageapi.NodeFailure{{Node: "below", Err: errors.New("down")}}}
	}
	return a
}
