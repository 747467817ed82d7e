package guard

import "net/http"

// Response remembers whether and with which status an answer began: an error
// can be told in full only before.
type Response struct {
	http.ResponseWriter
	Wrote  bool
	Status int
}

// WriteHeader implements http.ResponseWriter.
func (w *Response) WriteHeader(status int) {
	if !w.Wrote {
		w.Wrote, w.Status = true, status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *Response) Write(b []byte) (int, error) {
	if !w.Wrote {
		w.Wrote, w.Status = true, http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap serves http.ResponseController.
func (w *Response) Unwrap() http.ResponseWriter { return w.ResponseWriter }
