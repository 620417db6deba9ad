// Asio's TLS code, compiled once for the whole process, apart from asio.cpp: few programs need it.
#include <boost/asio/ssl/impl/src.hpp>
