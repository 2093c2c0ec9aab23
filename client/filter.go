package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"

	"ionet/protocol"
)

// RuleStepError is the step, counted from 0, that a change of rules failed at:
// nothing was changed.
type RuleStepError struct {
	Step int
	Err  error
}

func (e *RuleStepError) Error() string { return e.Err.Error() }

// Unwrap is the reason.
func (e *RuleStepError) Unwrap() error { return e.Err }

// EditRules carries out all steps of a change of rules (protocol.Rules*) or,
// with a [RuleStepError], none. took is how many rules, entries or sessions
// each step took away; nil of a change with very many steps. ENODEV: the stack has no packet filter.
func (s *Stack) EditRules(language uint8, steps []protocol.RuleStep) (took []int, err error) {
	return s.EditRulesTold(language, steps, func(int) {})
}

// EditRulesTold is EditRules that says, while a long change goes out, how many of its
// steps have been sent.
func (s *Stack) EditRulesTold(language uint8, steps []protocol.RuleStep, sent func(n int)) (took []int, err error) {
	q := protocol.RulesRequest{Language: language}
	b := protocol.AppendRulesRequest(nil, q)
	head := len(b)
	for i, st := range steps {
		step := protocol.AppendRuleStep(nil, st)
		if len(b)+len(step) > protocol.MaxPayload && len(b) > head {
			b[1] = 1 // more
			if _, err := s.do(protocol.TypeRules, 0, b); err != nil {
				return nil, stepError(err)
			}
			b = protocol.AppendRulesRequest(b[:0], q)
			sent(i)
		}
		b = append(b, step...)
	}
	sent(len(steps))
	b, err = s.do(protocol.TypeRules, 0, b)
	if err != nil {
		return nil, stepError(err)
	}
	for r := protocol.NewReader(b); r.Len() >= 4; {
		took = append(took, int(r.U32()))
	}
	return took, nil
}

// stepError finds the number of the step that the stack tells of.
func stepError(err error) error {
	var e *protocol.Error
	if !errors.As(err, &e) {
		return err
	}
	var n int
	if _, scan := fmt.Sscanf(e.Text, "step %d: ", &n); scan != nil || n < 1 {
		return err
	}
	_, text, _ := strings.Cut(e.Text, ": ")
	return &RuleStepError{Step: n - 1, Err: &protocol.Error{Errno: e.Errno, Text: text}}
}

// RuleLog reads a log of the packet filter.
type RuleLog struct {
	s     *Stack
	which uint8
	stop  *deadline
}

// RuleLog begins to read the log which (protocol.LogPackets and so on). Each record
// goes to one reader.
func (s *Stack) RuleLog(which uint8) *RuleLog {
	return &RuleLog{s: s, which: which, stop: newDeadline()}
}

// Next waits for records, and says how many were lost before them. After Close, also from another goroutine,
// it answers net.ErrClosed. ENODEV: there is no packet filter, or no longer.
func (l *RuleLog) Next() (rows []protocol.LogRow, lost uint32, err error) {
	b, err := l.s.callUntil(l.stop.wait(), func() error { return net.ErrClosed }, protocol.TypeLog, 0, []byte{l.which})
	if err != nil {
		return nil, 0, err
	}
	r := protocol.NewReader(b)
	lost = r.U32()
	for line := range bytes.SplitSeq(r.Rest(), []byte{'\n'}) {
		if len(line) == 0 {
			continue
		}
		var row protocol.LogRow
		if err := json.Unmarshal(line, &row); err != nil {
			return nil, 0, fmt.Errorf("record %d of the log: %w", len(rows)+1, err)
		}
		rows = append(rows, row)
	}
	return rows, lost, r.Err()
}

// Close ends the reading.
func (l *RuleLog) Close() { l.stop.shut() }

// SaveStates are the states (protocol.LogStates) or the sessions of NAT
// (protocol.LogNAT), for RestoreStates of this stack or a later one.
func (s *Stack) SaveStates(which uint8) ([]byte, error) {
	var all []byte
	cursor := uint64(0)
	for {
		b, err := s.do(protocol.TypeSave, 0, protocol.AppendSaveRequest(nil, which, cursor))
		if err != nil {
			return nil, err
		}
		next, page, err := protocol.ParsePage(b)
		if err != nil {
			return nil, err
		}
		if all = append(all, page...); next == 0 {
			return all, nil
		}
		cursor = next
	}
}

// RestoreStates puts what SaveStates answered back, and says how many there were
// that have a place: not those that are there already, or whose rule is not.
func (s *Stack) RestoreStates(which uint8, data []byte) (n int, err error) {
	const part = 60 << 10
	for {
		q := protocol.RestoreRequest{Which: which, Data: data[:min(part, len(data))]}
		data = data[len(q.Data):]
		q.More = len(data) > 0
		b, err := s.do(protocol.TypeRestore, 0, protocol.AppendRestoreRequest(nil, q))
		if err != nil {
			return 0, err
		}
		if !q.More {
			var n uint32
			err := protocol.ParseU32(b, &n)
			return int(n), err
		}
	}
}
