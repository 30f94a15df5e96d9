// A hub on net/http, as one writes it with care: an event's bytes are made once for all
// subscribers, each subscriber's goroutine writes all that is queued before it flushes, and
// whoever falls behind is closed. Prints its address, as pushv does.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"
)

// How many events a subscriber may be behind.
const queueMax = 256

type topic struct {
	mu          sync.Mutex
	subscribers map[chan *bytes.Buffer]struct{}
	published   uint64
}

type hub struct {
	streamID string
	mu       sync.Mutex
	topics   map[string]*topic
}

func (h *hub) topic(name string) *topic {
	h.mu.Lock()
	defer h.mu.Unlock()
	found, ok := h.topics[name]
	if !ok {
		found = &topic{subscribers: make(map[chan *bytes.Buffer]struct{})}
		h.topics[name] = found
	}
	return found
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	topic := h.topic(strings.TrimPrefix(r.URL.Path, "/events/"))
	if r.Method == http.MethodGet {
		topic.subscribe(w, r)
		return
	}
	data, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	topic.publish(h.streamID, data)
	w.WriteHeader(http.StatusNoContent)
}

func (t *topic) publish(streamID string, data []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.published++
	frame := new(bytes.Buffer)
	fmt.Fprintf(frame, "id: %s-%d\n", streamID, t.published)
	for _, line := range bytes.Split(data, []byte("\n")) {
		frame.WriteString("data: ")
		frame.Write(line)
		frame.WriteByte('\n')
	}
	frame.WriteByte('\n')
	for queue := range t.subscribers {
		select {
		case queue <- frame:
		default: // too far behind
			delete(t.subscribers, queue)
			close(queue)
		}
	}
}

func (t *topic) subscribe(w http.ResponseWriter, r *http.Request) {
	flusher := w.(http.Flusher)
	queue := make(chan *bytes.Buffer, queueMax)
	t.mu.Lock()
	t.subscribers[queue] = struct{}{}
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		delete(t.subscribers, queue)
		t.mu.Unlock()
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	io.WriteString(w, "retry: 2000\n\n")
	flusher.Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case frame, ok := <-queue:
			if !ok || !writeQueued(w, frame, queue) {
				return
			}
			flusher.Flush()
		}
	}
}

// Writes the frame and all that is queued behind it. Gives whether more can come.
func writeQueued(w io.Writer, frame *bytes.Buffer, queue <-chan *bytes.Buffer) bool {
	for {
		if _, err := w.Write(frame.Bytes()); err != nil {
			return false
		}
		select {
		case next, ok := <-queue:
			if !ok {
				return false
			}
			frame = next
		default:
			return true
		}
	}
}

// The congestion control of the listener is inherited by what it accepts. Best effort: where it is
// not permitted, the system's default stays.
func useCubic(_, _ string, socket syscall.RawConn) error {
	const tcpCongestion = 13
	return socket.Control(func(fd uintptr) {
		_ = syscall.SetsockoptString(int(fd), syscall.IPPROTO_TCP, tcpCongestion, "cubic")
	})
}

func main() {
	config := net.ListenConfig{Control: useCubic}
	listener, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening http://%s\n", listener.Addr())
	id := fmt.Sprintf("%08x", uint32(time.Now().UnixMilli()))
	log.Fatal(http.Serve(listener, &hub{streamID: id, topics: make(map[string]*topic)}))
}
