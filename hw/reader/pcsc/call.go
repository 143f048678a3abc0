//go:build pcsc

package pcsc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ebfe/scard"

	"ktradv/hw/reader"
)

// call runs one call into the C library in a goroutine of its own, because it may never return. It gives up at the
// deadline (reader.ErrHung), when broken is closed (what cause says), or when the context ends. done, which may be nil,
// runs with the call's result when it returns after all, so that nothing is leaked that can still be released.
func call[T any](ctx context.Context, timeout time.Duration, broken <-chan struct{}, cause func() error, f func() (T, error), late func(T, error)) (T, error) {
	type outcome struct {
		v   T
		err error
	}
	var zero T
	result := make(chan outcome)
	abandoned := make(chan struct{})
	go func() {
		v, err := f()
		select {
		case result <- outcome{v, err}:
		case <-abandoned:
			if late != nil {
				late(v, err)
			}
		}
	}()
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case o := <-result:
		return o.v, o.err
	case <-t.C:
		close(abandoned)
		return zero, reader.ErrHung
	case <-broken:
		close(abandoned)
		return zero, cause()
	case <-ctx.Done():
		close(abandoned)
		return zero, ctx.Err()
	}
}

// translate maps the library's errors to those of package reader. ErrNotTransacted says nothing about its reason and
// becomes ErrTransmission; callers that can, look at the slot.
func translate(op string, err error) error {
	if err == nil {
		return nil
	}
	var e scard.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("%s: %w", op, err)
	}
	for _, m := range meanings {
		if m.code == e {
			return fmt.Errorf("%s: %w: %w", op, m.err, err)
		}
	}
	return fmt.Errorf("%s: %w: %w", op, reader.ErrTransmission, err)
}

var meanings = []struct {
	code scard.Error
	err  error
}{
	{scard.ErrRemovedCard, reader.ErrCardRemoved},
	{scard.ErrNoSmartcard, reader.ErrCardRemoved},
	{scard.ErrUnresponsiveCard, reader.ErrMute},
	{scard.ErrUnpoweredCard, reader.ErrMute},
	{scard.ErrUnsupportedCard, reader.ErrMute},
	{scard.ErrProtoMismatch, reader.ErrMute}, // an eGK speaks T=1
	{scard.ErrResetCard, reader.ErrReset},
	{scard.ErrSharingViolation, reader.ErrInUse},
	{scard.ErrUnknownReader, reader.ErrReaderGone},
	{scard.ErrReaderUnavailable, reader.ErrReaderGone},
	{scard.ErrNoReadersAvailable, reader.ErrReaderGone},
	{scard.ErrNoService, reader.ErrNoService},
	{scard.ErrServiceStopped, reader.ErrNoService},
	{scard.ErrCommError, reader.ErrNoService},
	{scard.ErrCommDataLost, reader.ErrNoService},
	{scard.ErrInternalError, reader.ErrNoService},
	{scard.ErrInvalidHandle, reader.ErrNoService}, // the context belonged to a daemon that is gone
	{scard.ErrUnsupportedFeature, reader.ErrUnsupported},
}
