// Registers and discovers with go-zero's discov. The TTL is that of the library: 10 s.
package main

import (
	"errors"
	"time"

	"etcd-blocking/tests/peers/go/line"

	"github.com/zeromicro/go-zero/core/discov"
	"github.com/zeromicro/go-zero/core/logx"
)

func main() {
	// It prints its log to the output.
	logx.Disable()
	line.Peer{Register: register, Discover: discover}.Run()
}

type registration struct {
	endpoint, service string
	publisher         *discov.Publisher
}

func register(endpoint, service, addr string, _ time.Duration) (line.Registration, error) {
	r := &registration{endpoint: endpoint, service: service}
	return r, r.publish(addr)
}

func (r *registration) publish(addr string) error {
	r.publisher = discov.NewPublisher([]string{r.endpoint}, r.service, addr)
	return r.publisher.KeepAlive()
}

// Update moves to another address, the only property.
func (r *registration) Update(addr string) error {
	if addr == "" {
		return errors.New("update needs an address")
	}
	r.publisher.Stop()
	return r.publish(addr)
}

func (r *registration) Leave() error {
	r.publisher.Stop()
	return nil
}

func discover(endpoint, service string, show func([]string)) error {
	subscriber, err := discov.NewSubscriber([]string{endpoint}, service)
	if err != nil {
		return err
	}
	// One goroutine shows, so that lists are in order.
	changed := make(chan struct{}, 1)
	subscriber.AddListener(func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	for {
		show(subscriber.Values())
		<-changed
	}
}
