// Asio's and Beast's own code, compiled once for the whole process (BOOST_*_SEPARATE_COMPILATION in
// asio_dep).
#include <boost/asio/impl/src.hpp>
#include <boost/beast/src.hpp>
